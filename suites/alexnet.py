"""torchvision's AlexNet with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="alexnet",
    description="AlexNet (61.1 M parameters), large linear layers",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("alexnet", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224),
        )
    },
)
