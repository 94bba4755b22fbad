"""torchvision's RegNetY-400MF with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="regnet_y_400mf",
    description="RegNetY-400MF (4.3 M parameters), grouped convolutions",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("regnet_y_400mf", weights="IMAGENET1K_V2"),
            data=ImageNet(resize=232, crop=224),
        )
    },
)
