"""Pooling and means as float layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ptq.engine import modules as q
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.export.layers import Rounded, Twin
from pytest_ptq.engine.export.placement import Placement

Windows = Sequence[tuple[int, int, float]]
"""Of each output along one dimension: where its window starts and ends, and what each of its values weighs."""


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
            y = averaged(v, [_windows(n, k, s, p, layer.ceil_mode, counts, bool(override)) for n, k, s, p in sides])
            return y / override if override else y
        y = pool(v, layer.kernel_size, layer.stride, layer.padding, False, counts)
        return y if gain == 1.0 else y * gain

    return Rounded(compute, layer.out, how)


def _windows(
    size: int, kernel: int, stride: int, padding: int, beyond: bool, counts_padding: bool, sums: bool
) -> Windows:
    """As torch cuts windows off with ceil_mode: at the end of the padding, and the last one begins before it.

    beyond: the last window may reach beyond the end.
    """
    room = size + 2 * padding - kernel
    count = (-(-room // stride) if beyond else room // stride) + 1
    count -= (count - 1) * stride >= size + padding
    found = []
    for start in range(-padding, count * stride - padding, stride):
        end = min(start + kernel, size + padding)
        first, last = max(start, 0), min(end, size)
        weighs = 1 / ((end - start) if counts_padding else (last - first))
        found.append((first, last, 1.0 if sums else weighs))
    return found


def adaptive_average_twin(layer: q.QuantizedAdaptiveAvgPool2d, x: QParams | None, how: Placement) -> nn.Module:
    """Where all windows are of one size, ordinary pooling; otherwise by matrices."""

    def compute(v: Tensor) -> Tensor:
        sizes = _sizes(layer.output_size, v, layer.dims)
        given = [int(s) for s in v.shape[-layer.dims :]]
        if all(old % new == 0 for old, new in zip(given, sizes, strict=True)):
            steps = [old // new for old, new in zip(given, sizes, strict=True)]
            pool: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[layer.dims - 1]
            y: Tensor = v if set(steps) == {1} else pool(v, steps, steps)
            return y
        return averaged(v, [_adaptive(old, new) for old, new in zip(given, sizes, strict=True)])

    return Rounded(compute, layer.out, how)


def _sizes(output_size: Any, v: Tensor, dims: int) -> list[int]:
    listed = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size]
    listed = listed * dims if len(listed) == 1 else listed
    return [int(v.shape[d - dims]) if size is None else int(size) for d, size in enumerate(listed)]


def _adaptive(old: int, new: int) -> Windows:
    """As torch's adaptive pooling takes them."""
    bounds = [(i * old // new, -(-(i + 1) * old // new)) for i in range(new)]
    return [(start, end, 1 / (end - start)) for start, end in bounds]


def averaged(v: Tensor, sides: Sequence[Windows]) -> Tensor:
    """Weighted sums over windows of the last dimensions: a product with a matrix for each."""
    for d, windows in enumerate(sides):
        dim = v.ndim - len(sides) + d
        shares = torch.zeros(int(v.shape[dim]), len(windows))
        for i, (start, end, weighs) in enumerate(windows):
            shares[start:end, i] = weighs
        v = (v.transpose(dim, -1) @ shares).transpose(dim, -1)
    return v


def adaptive_maximum_twin(layer: q.QuantizedAdaptiveMaxPool2d, x: QParams | None, how: Placement) -> nn.Module:
    def compute(v: Tensor) -> Tensor:
        for d, new in enumerate(_sizes(layer.output_size, v, layer.dims)):
            dim = v.ndim - layer.dims + d
            windows = _adaptive(int(v.shape[dim]), new)
            v = torch.cat([v.narrow(dim, start, end - start).amax(dim, True) for start, end, _ in windows], dim)
        return v

    return _moved(compute, x, how)


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
