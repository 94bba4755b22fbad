"""Averages and maxima over windows of which the exporter knows no form, by sizes that are constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Windows = Sequence[tuple[int, int, float]]
"""Of each output along one dimension: where its window starts and ends, and what each of its values weighs."""
AVERAGE: Mapping[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
GLOBAL: Mapping[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d,
}  # fmt: skip


def windows(
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


def adaptive_average(v: Tensor, output_size: Any, dims: int) -> Tensor:
    """Where all windows are of one size, ordinary pooling; otherwise by matrices."""
    sizes = _sizes(output_size, v, dims)
    given = [int(s) for s in v.shape[-dims:]]
    if set(sizes) == {1}:
        return GLOBAL[dims](v, 1)
    if all(old % new == 0 for old, new in zip(given, sizes, strict=True)):
        steps = [old // new for old, new in zip(given, sizes, strict=True)]
        return v if set(steps) == {1} else AVERAGE[dims](v, steps, steps)
    return averaged(v, [_adaptive(old, new) for old, new in zip(given, sizes, strict=True)])


def adaptive_maximum(v: Tensor, output_size: Any, dims: int) -> Tensor:
    """The largest of each window, one dimension after the other."""
    for d, new in enumerate(_sizes(output_size, v, dims)):
        dim = v.ndim - dims + d
        cuts = _adaptive(int(v.shape[dim]), new)
        v = torch.cat([v.narrow(dim, start, end - start).amax(dim, True) for start, end, _ in cuts], dim)
    return v
