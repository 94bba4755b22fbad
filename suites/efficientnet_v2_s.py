"""torchvision's EfficientNetV2-S with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="efficientnet_v2_s",
    description="EfficientNetV2-S (21.5 M parameters), SiLU and squeeze-and-excite",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("efficientnet_v2_s", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=384, crop=384),
        )
    },
    latency_shape=(1, 3, 384, 384),
)
