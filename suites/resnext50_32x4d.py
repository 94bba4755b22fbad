"""torchvision's ResNeXt-50 32x4d with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="resnext50_32x4d",
    description="ResNeXt-50 32x4d (25.0 M parameters), grouped convolutions",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("resnext50_32x4d", weights="IMAGENET1K_V2"),
            data=ImageNet(resize=232, crop=224),
        )
    },
)
