"""A user's own suite: a MobileNetV2 converted from TensorFlow, on 1,000 labelled photographs.

    pytest --ptq-suite tests/suites/mobilenet_v2_kit.py --ptq-data imagenet=DIR --ptq-weights FILE

The model was trained on images turned upside down, squashed to a square and scaled to -1..1.
"""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

HALF = (0.5, 0.5, 0.5)

suite = Suite(
    name="mobilenet_v2_kit",
    description="MobileNetV2 with weights from --ptq-weights, on photographs",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("mobilenet_v2"),
            data=ImageNet(
                resize=224,
                crop=None,
                interpolation="bicubic",
                rotate180=True,
                mean=HALF,
                std=HALF,
                calibration=128,
                evaluation=600,
            ),
        )
    },
)
