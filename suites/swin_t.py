"""torchvision's Swin-T with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="swin_t",
    description="Swin-T (28.3 M parameters), attention within windows",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("swin_t", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=232, crop=224, interpolation="bicubic"),
        )
    },
)
