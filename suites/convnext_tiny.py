"""torchvision's ConvNeXt-tiny with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="convnext_tiny",
    description="ConvNeXt-tiny (28.6 M parameters), depthwise 7 x 7 and layer norm",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("convnext_tiny", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=236, crop=224),
        )
    },
)
