"""The mean of every output channel of a layer, from sums of what the layer reads: without computing the layer.

A convolution is linear, and so is a mean. Over all positions of all images, mean(y_k) is the bias plus the sum over
channels c and taps t of weight[k, c, t] times the mean of what tap t meets in channel c. What a tap meets is the image
but for a few rows and columns, so that the sums of all taps cost about one addition a value that is read, where the
convolution itself costs one product a value and a weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pytest_ptq.engine.blocks import Block, Conv1dBlock, FlatNormBlock, LinearBlock
from pytest_ptq.engine.modules import QuantizedConv2d, QuantizedLinear, QuantizedWeighted
from pytest_ptq.engine.modules.weighted import QuantizedConv1d, QuantizedFlatNorm

Weighted = Block | QuantizedWeighted


def _sequence(x: Tensor) -> Tensor:
    return x.unsqueeze(-2) if x.ndim else x  # what broadcasts may have fewer dimensions


def _flat(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], -1, 1)


def _as_it_is(x: Tensor) -> Tensor:
    return x


_AS_IMAGES: Mapping[type, Callable[[Tensor], Tensor]] = {
    Conv1dBlock: _sequence,
    QuantizedConv1d: _sequence,
    FlatNormBlock: _flat,
    QuantizedFlatNorm: _flat,
}
"""How layers that are convolutions over images of another shape look at what they read."""


class OutputMean:
    """The mean of a layer's outputs, before its activation, over batches that stream by.

    Args:
        layer: float or int8; int8 layers are given the integers that they read.
    """

    def __init__(self, layer: Weighted) -> None:
        self._layer = layer
        self._linear = isinstance(layer, (LinearBlock, QuantizedLinear))
        self._as_images = _AS_IMAGES.get(type(layer), _as_it_is)
        self._taps: Tensor | float = 0.0
        self._added: Tensor | float = 0.0
        self._count = 0

    def add(self, x: Tensor, residual: Tensor | None = None) -> None:
        """One call: x (N, C, ...) or, of a linear layer, (..., C); what is added to its sums broadcasts to them."""
        if self._linear:
            rows = x.reshape(-1, x.shape[-1])
            self._taps = self._taps + self._shifted(_sum_of_first(rows), len(rows))
            self._count += len(rows)
            return
        images = self._as_images(x)
        sums, spatial = _sums_of_taps(self._shifted(_sum_of_first(images), len(images)), self._geometry())
        self._taps = self._taps + sums
        self._count += len(images) * math.prod(spatial)
        if residual is not None:
            added = residual.expand_as(x) if self._as_images is _flat else residual
            out = (len(images), len(self._layer.weight), *spatial)
            self._added = self._added + _sum_of_channels(self._as_images(added), out)

    def value(self) -> Tensor:
        """float64 (K,)."""
        layer, weight = self._layer, self._layer.weight
        assert isinstance(self._taps, Tensor)
        groups = getattr(layer, "groups", 1)
        met = (self._taps / self._count).float().reshape(groups, -1, 1)
        found = (weight.float().reshape(groups, len(weight) // groups, -1) @ met).flatten().double()
        if isinstance(layer, QuantizedWeighted):
            found *= layer.scales.double() * layer.x.scale
        if layer.bias is not None:
            found += layer.bias.double()
        return found + self._residual()

    def _residual(self) -> Tensor | float:
        mean = self._added / self._count
        q = self._layer.residual if isinstance(self._layer, QuantizedConv2d) else None
        return mean if q is None else (mean - q.zero_point) * q.scale

    def _shifted(self, sums: Tensor, count: int) -> Tensor:
        """Sums of integers as those of their distances from the zero point, which is what padding holds."""
        return sums - count * self._layer.x.zero_point if isinstance(self._layer, QuantizedWeighted) else sums

    def _geometry(self) -> list[tuple[int, int, int, int]]:
        """Size, stride, padding and dilation along each spatial dimension."""
        layer = self._layer
        shapes: Sequence[Sequence[int]] = (layer.stride, layer.padding, layer.dilation)  # type: ignore[assignment]
        return list(zip(layer.weight.shape[2:], *shapes, strict=True))


def _sum_of_first(x: Tensor) -> Tensor:
    """Sum over the first dimension, float64; of integers it is exact.

    Image by image: `sum` goes through the order in which channels-last images lie in memory about ten times slower.
    """
    if x.ndim < 3:
        return x.sum(0, dtype=torch.float64)
    total = torch.zeros_like(x[0], dtype=x.dtype if x.is_floating_point() else torch.int32)
    for image in x:
        total += image
    return total.double()


def _sums_of_taps(x: Tensor, geometry: Sequence[tuple[int, int, int, int]]) -> tuple[Tensor, list[int]]:
    """Of x (C, *spatial) what each tap meets at all positions together, (C, *taps), and how many these are."""
    positions: list[int] = []
    for size, stride, padding, dilation in geometry:
        along = x.movedim(1, -1)
        length = along.shape[-1]
        count = (length + 2 * padding - dilation * (size - 1) - 1) // stride + 1
        taps = [_met(tap * dilation - padding, stride, count, length) for tap in range(size)]
        x = torch.stack([along[..., met].sum(-1) for met in taps], -1)
        positions.append(count)
    return x, positions


def _met(offset: int, stride: int, count: int, length: int) -> slice:
    """What of a line of `length` values lies at offset + i * stride, i < count; zeros beyond its ends add nothing."""
    first, last = -(min(offset, 0) // stride), min(count - 1, (length - 1 - offset) // stride)
    return slice(offset + first * stride, max(offset + last * stride + 1, 0), stride)


def _sum_of_channels(x: Tensor, out: tuple[int, ...]) -> Tensor:
    """Of what broadcasts to outputs (N, K, ...), the sum of each channel over all of them: float64 (K,)."""
    if x.shape == out:
        return _sum_of_first(x).flatten(1).sum(1)
    whole = x.double().expand(out)
    return whole.sum([d for d in range(whole.ndim) if d != 1])
