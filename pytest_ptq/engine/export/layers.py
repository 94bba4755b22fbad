"""All other int8 layers as float layers: what each computes, and where it rounds."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ptq.engine import modules as q
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.export.placement import Placement
from pytest_ptq.engine.export.weighted import rounded


class Rounded(nn.Module):
    """A float operation, the rounding of its int8 layer, and what moves the result about behind it."""

    def __init__(
        self,
        compute: Callable[..., Tensor],
        out: QParams | None,
        how: Placement,
        bounds: tuple[int, int] | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.compute, self.out, self.how, self.after = compute, out, how, after
        self.low = 0
        if bounds is not None and out is not None:
            self.low, self.out = bounds[0], replace(out, quant_max=bounds[1])

    def forward(self, *inputs: Tensor) -> Tensor:
        y = self.compute(*inputs)
        y = y if self.out is None else rounded(y, self.out, self.how, self.low)
        if self.after is None:
            return y
        y = self.after(y)
        return y if self.out is None or not self.how.rounds_moves else rounded(y, self.out, self.how)


class Identity(nn.Module):
    """Integers are float here already."""

    def forward(self, x: Any) -> Any:
        return x


def quantize_twin(layer: q.Quantize, x: QParams | None, how: Placement) -> nn.Module:
    shift = layer.shift * layer.out.scale
    return Rounded((lambda v: v + shift) if shift else (lambda v: v), layer.out, how)


def clamp_twin(layer: q.QuantizedClamp, x: QParams | None, how: Placement) -> nn.Module:
    if how.clips_integers:
        return Rounded(lambda v: v, x, how, layer.bounds)
    low, high = ((b - layer.x.zero_point) * layer.x.scale for b in layer.bounds)
    return Rounded(lambda v: v.clamp(low, high), None, how)


def mean_twin(layer: q.QuantizedMean, x: QParams | None, how: Placement) -> nn.Module:
    """Over all of an image it is global average pooling, for which there are int8 kernels."""

    def compute(v: Tensor) -> Tensor:
        pool = _POOLS.get(v.ndim) if _dims(layer, v) == list(range(2, v.ndim)) else None
        return v.mean(_dims(layer, v), True) if pool is None else pool(v, 1)

    def drop(v: Tensor) -> Tensor:
        dims = _dims(layer, v)
        return v.flatten(dims[0] - 1) if dims == list(range(dims[0], v.ndim)) and dims[0] else _squeezed(v, dims)

    return Rounded(compute, layer.out, how, after=None if layer.keepdim else drop)


def _dims(layer: q.QuantizedMean, v: Tensor) -> list[int]:
    return sorted(d % v.ndim for d in layer.dims)


def _squeezed(v: Tensor, dims: Sequence[int]) -> Tensor:
    for d in reversed(dims):
        v = v.squeeze(d)
    return v


_POOLS: Mapping[int, Callable[..., Tensor]] = {
    3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d,
}  # fmt: skip


def average_twin(layer: q.QuantizedAvgPool2d, x: QParams | None, how: Placement) -> nn.Module:
    dims = layer.dims
    gain = math.prod(layer.kernel_size) / layer.divisor_override if layer.divisor_override else 1.0
    counts = True if layer.divisor_override else layer.count_include_pad
    pool: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[dims - 1]

    def compute(v: Tensor) -> Tensor:
        y = pool(v, layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, counts)
        return y if gain == 1.0 else y * gain

    return Rounded(compute, layer.out, how)


def adaptive_average_twin(layer: q.QuantizedAdaptiveAvgPool2d, x: QParams | None, how: Placement) -> nn.Module:
    """Where windows differ in size, a product with a matrix of averages for each dimension."""

    def compute(v: Tensor) -> Tensor:
        sizes = _sizes(layer.output_size, v, layer.dims)
        given = [int(s) for s in v.shape[-layer.dims :]]
        if all(old % new == 0 for old, new in zip(given, sizes, strict=True)):
            steps = [old // new for old, new in zip(given, sizes, strict=True)]
            pool: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[layer.dims - 1]
            return v if set(steps) == {1} else pool(v, steps, steps)
        for d, (old, new) in enumerate(zip(given, sizes, strict=True)):
            dim = v.ndim - layer.dims + d
            if old != new:
                v = (v.transpose(dim, -1) @ _averages(old, new)).transpose(dim, -1)
        return v

    return Rounded(compute, layer.out, how)


def _sizes(output_size: Any, v: Tensor, dims: int) -> list[int]:
    listed = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size]
    listed = listed * dims if len(listed) == 1 else listed
    return [int(v.shape[d - dims]) if size is None else int(size) for d, size in enumerate(listed)]


def _windows(old: int, new: int) -> list[tuple[int, int]]:
    """The window of each output, as torch's adaptive pooling takes them."""
    return [(i * old // new, -(-(i + 1) * old // new)) for i in range(new)]


def _averages(old: int, new: int) -> Tensor:
    """(old, new): the share of each input in each output."""
    shares = torch.zeros(old, new)
    for i, (start, end) in enumerate(_windows(old, new)):
        shares[start:end, i] = 1 / (end - start)
    return shares


def adaptive_maximum_twin(layer: q.QuantizedAdaptiveMaxPool2d, x: QParams | None, how: Placement) -> nn.Module:
    def compute(v: Tensor) -> Tensor:
        for d, new in enumerate(_sizes(layer.output_size, v, layer.dims)):
            dim = v.ndim - layer.dims + d
            parts = [
                v.narrow(dim, start, end - start).amax(dim, True) for start, end in _windows(int(v.shape[dim]), new)
            ]
            v = torch.cat(parts, dim)
        return v

    return _moved(compute, x, how)


def maximum_twin(layer: q.QuantizedMaxPool2d, x: QParams | None, how: Placement) -> nn.Module:
    pool: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[layer.dims - 1]
    return _moved(
        lambda v: pool(v, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode), x, how
    )


def pad_twin(layer: q.QuantizedPad, x: QParams | None, how: Placement) -> nn.Module:
    return _moved(lambda v: F.pad(v, layer.pad), x, how)


def _moved(compute: Callable[..., Tensor], x: QParams | None, how: Placement) -> nn.Module:
    return Rounded(compute, x if how.rounds_moves else None, how)


def _of_two(function: Callable[..., Tensor]) -> Callable[..., nn.Module]:
    return lambda layer, x, how: Rounded(function, layer.out, how)


def _of_many(function: Callable[[Sequence[Tensor], int], Tensor]) -> Callable[..., nn.Module]:
    return lambda layer, x, how: Rounded(lambda *parts: function(parts, layer.dim), layer.out, how)


Twin = Callable[[Any, "QParams | None", Placement], nn.Module]
"""An int8 layer, how the first tensor that it reads is stored, and what the runtime asks for -> a float layer."""

TWINS: Mapping[type[nn.Module], Twin] = {
    q.Quantize: quantize_twin,
    q.DeQuantize: lambda layer, x, how: Identity(),
    q.QuantizedAdd: _of_two(operator.add),
    q.QuantizedSub: _of_two(operator.sub),
    q.QuantizedMul: _of_two(operator.mul),
    q.QuantizedMaximum: _of_two(torch.maximum),
    q.QuantizedMinimum: _of_two(torch.minimum),
    q.QuantizedCat: _of_many(lambda parts, dim: torch.cat(list(parts), dim)),
    q.QuantizedStack: _of_many(lambda parts, dim: torch.stack(list(parts), dim)),
    q.QuantizedClamp: clamp_twin,
    q.QuantizedPad: pad_twin,
    q.QuantizedMean: mean_twin,
    **dict.fromkeys((q.QuantizedAvgPool1d, q.QuantizedAvgPool2d, q.QuantizedAvgPool3d), average_twin),
    **dict.fromkeys(
        (q.QuantizedAdaptiveAvgPool1d, q.QuantizedAdaptiveAvgPool2d, q.QuantizedAdaptiveAvgPool3d),
        adaptive_average_twin,
    ),
    **dict.fromkeys((q.QuantizedMaxPool1d, q.QuantizedMaxPool2d, q.QuantizedMaxPool3d), maximum_twin),
    **dict.fromkeys(
        (q.QuantizedAdaptiveMaxPool1d, q.QuantizedAdaptiveMaxPool2d, q.QuantizedAdaptiveMaxPool3d),
        adaptive_maximum_twin,
    ),
}
