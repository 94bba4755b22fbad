"""torchvision's GoogLeNet with its own ImageNet weights, on `--ptq-data imagenet=DIR`.

The weights were trained on images scaled to -1..1, which torchvision's own model does inside itself when it loads them.
"""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="googlenet",
    description="GoogLeNet (6.6 M parameters), branches and concatenations",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("googlenet", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=256, crop=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        )
    },
)
