"""torchvision's Inception v3 with its own ImageNet weights, on `--ptq-data imagenet=DIR`.

The weights were trained on images scaled to -1..1, which torchvision's own model does inside itself when it loads them.
"""

from pytest_ptq import ImageNet, Suite, TorchvisionModel, Variant

suite = Suite(
    name="inception_v3",
    description="Inception v3 (27.2 M parameters), branches, 1 x 7 and 7 x 1 convolutions",
    variants={
        "imagenet": Variant(
            model=TorchvisionModel("inception_v3", weights="IMAGENET1K_V1"),
            data=ImageNet(resize=342, crop=299, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        )
    },
    latency_shape=(1, 3, 299, 299),
)
