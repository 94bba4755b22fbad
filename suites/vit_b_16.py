"""torchvision's ViT-B/16 with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="vit_b_16",
    description="ViT-B/16 (86.6 M parameters), attention",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("vit_b_16", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224),
        )
    },
)
