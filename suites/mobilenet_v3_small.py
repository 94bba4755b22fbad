"""torchvision's MobileNetV3-small: offline on Fashion-MNIST, or with ImageNet weights on `--ptq-data imagenet=DIR`."""

from pytest_ptq import FashionMNIST, ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="mobilenet_v3_small",
    description="MobileNetV3-small (2.5 M parameters), hard-swish and squeeze-and-excite",
    variants={
        "embedded": Variant(
            model=TorchvisionModel(
                "mobilenet_v3_small", classes=10, weights="embedded:mobilenet_v3_small_fashion_mnist"
            ),
            data=FashionMNIST(),
        ),
        "imagenet": Variant(
            model=TorchvisionModel("mobilenet_v3_small", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224),
        ),
    },
)
