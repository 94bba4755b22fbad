"""torchvision's DenseNet-121 with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="densenet121",
    description="DenseNet-121 (8.0 M parameters), concatenations",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("densenet121", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224),
        )
    },
)
