"""torchvision's models and a transformer at the smallest image each takes, with random weights that behave as trained.

No weights are downloaded: every weight is drawn so that signals keep their size, and batch norms take the statistics
of the images they then meet. What a conversion costs on such a model is more than it costs on a trained one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

CLASSES = 10


@dataclass(frozen=True)
class Entry:
    """One model.

    Args:
        size: height and width of its images, px.
        arguments: for its builder.
        sqnr: dB that an int8 conversion by `x86` keeps of the outputs at least, measured and rounded down.
        int8: share of the multiply-accumulates that run in int8 at least.
        heavy: takes seconds: left out of a quick run.
    """

    size: int = 64
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sqnr: float = 15.0
    int8: float = 0.99
    heavy: bool = False


class Words(nn.Module):
    """An `nn.TransformerEncoder` that classifies sequences of vectors (N, 16, 32)."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.encoder(x).mean(1))
        return y


_OWN_BATCH_NORMS = {"init_weights": False, "aux_logits": False}
_NO_BACKBONE = {"weights_backbone": None}
ZOO: Mapping[str, Entry] = {
    "alexnet": Entry(sqnr=24, heavy=True),
    "vgg16_bn": Entry(32, sqnr=18, heavy=True),
    "resnet18": Entry(sqnr=24),
    "resnet50": Entry(sqnr=16),
    "resnext50_32x4d": Entry(sqnr=18, heavy=True),
    "wide_resnet50_2": Entry(sqnr=18, heavy=True),
    "densenet121": Entry(sqnr=14),
    "googlenet": Entry(arguments=_OWN_BATCH_NORMS, sqnr=11),
    "inception_v3": Entry(75, _OWN_BATCH_NORMS, sqnr=6),
    "squeezenet1_1": Entry(sqnr=26),
    "mnasnet1_0": Entry(sqnr=13),
    "mobilenet_v2": Entry(sqnr=13),
    "mobilenet_v3_small": Entry(sqnr=13),
    "mobilenet_v3_large": Entry(sqnr=11),
    "shufflenet_v2_x1_0": Entry(sqnr=14),
    "efficientnet_b0": Entry(sqnr=11),
    "efficientnet_v2_s": Entry(sqnr=12, heavy=True),
    "regnet_y_400mf": Entry(sqnr=20),
    "convnext_tiny": Entry(sqnr=23),
    "vit_b_16": Entry(32, {"image_size": 32}, sqnr=21, heavy=True),
    "swin_t": Entry(sqnr=18, int8=0.95),
    "deeplabv3_mobilenet_v3_large": Entry(arguments=_NO_BACKBONE, sqnr=10),
    "fcn_resnet50": Entry(arguments=_NO_BACKBONE, sqnr=13),
    "transformer_encoder": Entry(sqnr=30, int8=0.88),
}


def build(name: str) -> nn.Module:
    """The model in eval mode; the same weights every time."""
    torch.manual_seed(0)
    if name == "transformer_encoder":
        model: nn.Module = Words()
    else:
        model = models.get_model(name, weights=None, num_classes=CLASSES, **ZOO[name].arguments)
    return settle(model, inputs(name, 16, seed=7))


def inputs(name: str, count: int, seed: int = 1) -> Tensor:
    """Random images (count, 3, H, W) of waves and noise, or sequences, as the model takes them."""
    generator = torch.Generator().manual_seed(seed)
    if name == "transformer_encoder":
        return torch.randn(count, 16, 32, generator=generator)
    size = ZOO[name].size
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return smooth + 0.5 * torch.randn(count, 3, size, size, generator=generator)


@torch.no_grad()
def settle(model: nn.Module, x: Tensor) -> nn.Module:
    """Weights that keep the size of a signal, batch norms with the statistics of `x`; in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        _settle_layer(module, generator)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith(("layer_scale", "class_token")):
            parameter.normal_(0.3, 0.1, generator=generator)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) or "StochasticDepth" in type(module).__name__:
            module.eval()
    model(x)
    return model.eval()


def _settle_layer(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
        module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
        if module.bias is not None:
            module.bias.uniform_(-0.2, 0.2, generator=generator)
    if isinstance(module, nn.MultiheadAttention):
        assert module.in_proj_weight is not None
        module.in_proj_weight.normal_(0, module.embed_dim**-0.5, generator=generator)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.momentum = None  # the plain average over what it sees
        module.weight.uniform_(0.5, 1.5, generator=generator)
        module.bias.uniform_(0.0, 1.0, generator=generator)
