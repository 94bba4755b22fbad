"""torchvision's MobileNetV2: offline on Fashion-MNIST, or with ImageNet weights on `--ptq-data imagenet=DIR`."""

from pytest_ptq import FashionMNIST, ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="mobilenet_v2",
    description="MobileNetV2 (3.5 M parameters), depthwise convolutions and ReLU6",
    variants={
        "embedded": Variant(
            model=TorchvisionModel("mobilenet_v2", classes=10, weights="embedded:mobilenet_v2_fashion_mnist"),
            data=FashionMNIST(),
        ),
        "imagenet": Variant(
            model=TorchvisionModel("mobilenet_v2", weights="IMAGENET1K_V2"),
            data=ImageNet(resize=232, crop=224),
        ),
    },
)
