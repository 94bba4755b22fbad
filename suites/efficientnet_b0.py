"""torchvision's EfficientNet-B0 with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="efficientnet_b0",
    description="EfficientNet-B0 (5.3 M parameters), SiLU and squeeze-and-excite",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("efficientnet_b0", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224, interpolation="bicubic"),
        )
    },
)
