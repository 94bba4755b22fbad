"""torchvision's ResNet-18 with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="resnet18",
    description="ResNet-18 (11.7 M parameters), residual additions",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("resnet18", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224),
        )
    },
)
