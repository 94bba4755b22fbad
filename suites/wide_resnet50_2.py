"""torchvision's Wide ResNet-50-2 with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="wide_resnet50_2",
    description="Wide ResNet-50-2 (68.9 M parameters), wide convolutions",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("wide_resnet50_2", weights="IMAGENET1K_V2"),
            data=ImageNet(resize=232, crop=224),
        )
    },
)
