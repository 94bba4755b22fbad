"""torchvision's ResNet50: offline on Fashion-MNIST, or with ImageNet weights on `--ptq-data imagenet=DIR`."""

from pytest_ptq import FashionMNIST, ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="resnet50",
    description="ResNet50 (25.6 M parameters), large dense convolutions and residual additions",
    variants={
        "embedded": Variant(
            model=TorchvisionModel("resnet50", classes=10, weights="embedded:resnet50_fashion_mnist"),
            data=FashionMNIST(),
        ),
        "imagenet": Variant(
            model=TorchvisionModel("resnet50", weights="IMAGENET1K_V2"),
            data=ImageNet(resize=232, crop=224),
        ),
    },
)
