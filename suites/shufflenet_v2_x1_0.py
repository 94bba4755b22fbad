"""torchvision's ShuffleNetV2 with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="shufflenet_v2_x1_0",
    description="ShuffleNetV2 (2.3 M parameters), channel splits and shuffles",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("shufflenet_v2_x1_0", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224),
        )
    },
)
