"""Which sums of two products would not fit into int16 on a CPU without VNNI, counted exactly.

Such a CPU multiplies with vpmaddubsw: unsigned bytes times signed bytes, neighbours added in int16, which saturates
(Intel 64 and IA-32 Architectures Software Developer's Manual, PMADDUBSW). Which products are neighbours is decided by
the layout that the kernel reads. oneDNN keeps four input channels of one place of the window together, so that a pair
is channels 2j and 2j + 1 of a group at one place; an odd last channel is alone, and one channel a group (depthwise)
never meets another. tests/engine/test_saturation_lint.py holds oneDNN itself, kept to AVX2, to exactly this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ptq.engine.modules import QuantizedConv2d, QuantizedLinear

LIMIT = 32767
_CHUNK = 1 << 22
"""Products that are held in memory at once."""


@dataclass(frozen=True)
class Saturation:
    """Pairs of neighbouring products in one layer.

    Args:
        pairs: how many sums of two products were looked at.
        overflowing: of these, how many lie beyond int16.
        possible: how many could, were every activation as large as its range allows: an upper bound.
    """

    pairs: int = 0
    overflowing: int = 0
    possible: int = 0

    def __add__(self, other: Saturation) -> Saturation:
        return Saturation(
            self.pairs + other.pairs, self.overflowing + other.overflowing, self.possible + other.possible
        )


def saturation(layer: nn.Module, x: Tensor) -> Saturation | None:
    """What int16 would do to one layer on the integers `x` that it reads; None for a layer without such sums."""
    if isinstance(layer, QuantizedConv2d) and x.ndim == 4:
        padded = F.pad(x, (layer.padding[1], layer.padding[1], layer.padding[0], layer.padding[0]))
        return _convolution(layer.weight, padded, layer.stride, layer.dilation, layer.groups, layer.x.quant_max)
    if isinstance(layer, QuantizedLinear):
        rows = x.reshape(-1, x.shape[-1], 1, 1)
        return _convolution(layer.weight[:, :, None, None], rows, (1, 1), (1, 1), 1, layer.x.quant_max)
    return None


def _convolution(
    weight: Tensor, x: Tensor, stride: tuple[int, int], dilation: tuple[int, int], groups: int, largest: int
) -> Saturation:
    """Padding adds no product, and stands as 0 in `x`."""
    if weight.shape[1] < 2:
        return Saturation()
    filters, images = _pairs(weight, 1), _pairs(x.view(len(x), groups, -1, *x.shape[2:]), 2)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    at_once = len(x) * sizes[0] * sizes[1]
    filters = filters.view(groups, -1, *filters.shape[1:])  # G, K / G, pairs, 2, R, S
    room = _reach(filters) * largest > LIMIT
    found = Saturation(at_once * room.numel(), 0, at_once * int(room.sum()))
    if not found.possible:
        return found
    overflowing = 0
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            top, left = i * dilation[0], j * dilation[1]
            window = images[
                ...,
                top : top + (sizes[0] - 1) * stride[0] + 1 : stride[0],
                left : left + (sizes[1] - 1) * stride[1] + 1 : stride[1],
            ]
            overflowing += sum(_beyond(filters[..., i, j], room[..., i, j], window))
    return Saturation(found.pairs, overflowing, found.possible)


def _pairs(values: Tensor, dim: int) -> Tensor:
    """Channels, along `dim`, two by two: (..., C, ...) -> (..., C / 2, 2, ...)."""
    if values.shape[dim] % 2:
        values = torch.cat([values, torch.zeros_like(values.narrow(dim, 0, 1))], dim)
    shape = values.shape
    return values.reshape(*shape[:dim], -1, 2, *shape[dim + 1 :])


def _reach(filters: Tensor) -> Tensor:
    """How far a pair of weights can get with activations of 1: the larger of its positive and its negative sum."""
    first, second = filters.int().unbind(3)
    up = first.clamp_min(0) + second.clamp_min(0)
    down = first.clamp_max(0) + second.clamp_max(0)
    return torch.maximum(up, -down)


def _beyond(filters: Tensor, room: Tensor, window: Tensor) -> Iterator[int]:
    """Counts for one place of the window: filters (G, K, P, 2), room (G, K, P), window (N, G, P, 2, H, W).

    No weight exceeds 127, so that only activations that sum to more than 32767 / 127 can do it: few, as a rule, and
    few weights can. Only what is left is multiplied.
    """
    first, second = window.short().unbind(3)
    hot = first + second > LIMIT // 127
    worth = hot.amax((0, 3, 4)) & room.any(1)
    for group, pair in worth.nonzero().tolist():
        where, which = hot[:, group, pair], room[group, :, pair]
        a, b = (t[:, group, pair][where].int()[:, None] for t in (first, second))
        v, w = filters[group, which, pair].int().unbind(1)
        step = max(1, _CHUNK // len(v))
        for start in range(0, len(a), step):
            sums = a[start : start + step] * v + b[start : start + step] * w
            yield int(((sums > LIMIT) | (sums < -LIMIT - 1)).sum())
