"""torchvision's SqueezeNet 1.1 with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="squeezenet1_1",
    description="SqueezeNet 1.1 (1.2 M parameters), concatenations and no linear layer",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("squeezenet1_1", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224),
        )
    },
)
