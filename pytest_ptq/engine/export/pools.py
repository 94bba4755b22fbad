"""Pooling and means as float layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ptq.engine import modules as q
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.export.layers import Rounded, Twin
from pytest_ptq.engine.export.placement import Placement
from pytest_ptq.engine.export.windows import adaptive_average, adaptive_maximum, averaged, windows


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
    """By its own node; by matrices where the last window reaches beyond the end, or a runtime pads otherwise."""
    override = layer.divisor_override
    gain = math.prod(layer.kernel_size) / override if override else 1.0
    counts = bool(override) or layer.count_include_pad
    pool: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[layer.dims - 1]

    def compute(v: Tensor) -> Tensor:
        sides = list(zip(map(int, v.shape[-layer.dims :]), layer.kernel_size, layer.stride, layer.padding, strict=True))
        cut = layer.ceil_mode and any((n + 2 * p - k) % s for n, k, s, p in sides)
        y: Tensor
        if cut or (counts and any(layer.padding) and not how.pads_averages):
            y = averaged(v, [windows(n, k, s, p, layer.ceil_mode, counts, bool(override)) for n, k, s, p in sides])
            return y / override if override else y
        y = pool(v, layer.kernel_size, layer.stride, layer.padding, False, counts)
        return y if gain == 1.0 else y * gain

    return Rounded(compute, layer.out, how)


def adaptive_average_twin(layer: q.QuantizedAdaptiveAvgPool2d, x: QParams | None, how: Placement) -> nn.Module:
    return Rounded(lambda v: adaptive_average(v, layer.output_size, layer.dims), layer.out, how)


def adaptive_maximum_twin(layer: q.QuantizedAdaptiveMaxPool2d, x: QParams | None, how: Placement) -> nn.Module:
    return _moved(lambda v: adaptive_maximum(v, layer.output_size, layer.dims), x, how)


def maximum_twin(layer: q.QuantizedMaxPool2d, x: QParams | None, how: Placement) -> nn.Module:
    pool: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[layer.dims - 1]
    return _moved(
        lambda v: pool(v, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode), x, how
    )


def _moved(compute: Callable[..., Tensor], x: QParams | None, how: Placement) -> nn.Module:
    return Rounded(compute, x if how.rounds_moves else None, how)


POOLS: Mapping[type[nn.Module], Twin] = {
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
