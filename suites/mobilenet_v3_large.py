"""torchvision's MobileNetV3-large with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="mobilenet_v3_large",
    description="MobileNetV3-large (5.5 M parameters), hard-swish and squeeze-and-excite",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("mobilenet_v3_large", weights="IMAGENET1K_V2"),
            data=ImageNet(resize=232, crop=224),
        )
    },
)
