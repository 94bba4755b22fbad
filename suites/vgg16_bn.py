"""torchvision's VGG16 with batch norm with its own ImageNet weights, on `--ptq-data imagenet=DIR`."""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="vgg16_bn",
    description="VGG16 with batch norm (138.4 M parameters), large convolutions and linear layers",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("vgg16_bn", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224),
        )
    },
)
