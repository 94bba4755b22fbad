"""The models of the latency table: torchvision's, with random weights, since no kernel's time depends on a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

MODELS = (
    "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "shufflenet_v2_x1_0", "vit_b_16",
)  # fmt: skip
SHAPE = (1, 3, 224, 224)
CALIBRATION = 8
"""Images, one a batch: exported and traced models are made for that one shape."""


def build(name: str) -> nn.Module:
    """The model in eval mode, weights drawn so that signals keep their size, batch norms with what they then meet."""
    import torch
    from torchvision import models

    from benchmarks.zoo_models import settle

    torch.manual_seed(0)
    return settle(models.get_model(name, weights=None), torch.cat(images(2)))


def images(count: int = CALIBRATION) -> list[Tensor]:
    """Batches of one image of waves and noise, the same every time."""
    import torch

    generator = torch.Generator().manual_seed(1)

    def image() -> Tensor:
        coarse = torch.randn(1, 3, 7, 7, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=SHAPE[2:], mode="bilinear")
        return smooth + 0.5 * torch.randn(SHAPE, generator=generator)

    return [image() for _ in range(count)]


def macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of one call: half of what torch counts as operations."""
    from torch.utils.flop_counter import FlopCounterMode

    # With gradients, so that attention is not one opaque operation that nobody counts.
    with FlopCounterMode(display=False) as counter:
        model(example)
    return int(counter.get_total_flops()) // 2
