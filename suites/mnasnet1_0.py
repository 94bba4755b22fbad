"""torchvision's MNASNet 1.0 with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="mnasnet1_0",
    description="MNASNet 1.0 (4.4 M parameters), depthwise convolutions",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("mnasnet1_0", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224),
        )
    },
)
