"""Affine quantization: ranges to scales and zero points, and the reference integer arithmetic.

A real number x is stored as an integer q with x ~ scale * (q - zero_point) (Jacob et al., arXiv 1712.05877,
equation 1). The reference functions are slow and obvious: sums of products in int64, exact, and one rounding at the
end. Every kernel is held against them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

UINT8 = (0, 255)
UINT7 = (0, 127)
"""The range of an activation under reduce_range: a pair of products with int8 weights fits into int16."""
WEIGHT_MAX = 127
"""Weights use -127..127, so that the range is symmetric and -w is representable whenever w is."""
SMALLEST_SCALE = 1e-12
"""Scale of a tensor or channel that is zero everywhere: any positive number would do, a tiny one cannot overflow."""


@dataclass(frozen=True)
class QParams:
    """How one activation is stored: uint8 within quant_min..quant_max."""

    scale: float
    zero_point: int
    quant_min: int = 0
    quant_max: int = 255


def choose_qparams(low: float, high: float, bounds: tuple[int, int] = UINT8) -> QParams:
    """Scale and zero point that cover low..high, with zero exactly representable.

    Args:
        low, high: the real range; it is widened to contain zero, because padding and ReLU produce exact zeros.
        bounds: smallest and largest integer.
    """
    quant_min, quant_max = bounds
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (quant_max - quant_min), SMALLEST_SCALE)
    zero_point = quant_min - round(low / scale)
    return QParams(scale, min(max(zero_point, quant_min), quant_max), quant_min, quant_max)


def quantize(x: Tensor, q: QParams) -> Tensor:
    """Round half to even, shift, saturate: float tensor -> uint8 tensor of the same shape."""
    return torch.clamp(torch.round(x.double() / q.scale) + q.zero_point, q.quant_min, q.quant_max).to(torch.uint8)


def dequantize(x: Tensor, q: QParams) -> Tensor:
    """uint8 tensor -> float32 tensor of the same shape."""
    return (x.double() - q.zero_point).mul(q.scale).float()


def weight_scales(weight: Tensor, per_channel: bool) -> Tensor:
    """Symmetric scales of a weight (out_channels, ...): float32 (out_channels,), all equal when not per channel."""
    extremes = weight.detach().abs().flatten(1).amax(1)
    if not per_channel:
        extremes = extremes.max().expand_as(extremes)
    return (extremes / WEIGHT_MAX).clamp_min(SMALLEST_SCALE).float().contiguous()


def quantize_weight(weight: Tensor, scales: Tensor) -> Tensor:
    """Weight (out_channels, ...) -> int8 tensor of the same shape, with one scale an output channel."""
    steps = weight.detach() / scales.view(-1, *[1] * (weight.ndim - 1))
    return torch.round(steps).clamp(-WEIGHT_MAX, WEIGHT_MAX).to(torch.int8)


def requantize(accumulated: Tensor, scale: Tensor, bias: Tensor | None, q: QParams) -> Tensor:
    """int64 sums (N, K, ...) times a scale a channel, plus a real bias, to uint8 (arXiv 1712.05877, equation 4)."""
    channel = (1, -1, *[1] * (accumulated.ndim - 2))
    real = accumulated.double() * scale.double().view(channel)
    if bias is not None:
        real = real + bias.double().view(channel)
    return torch.clamp(torch.round(real / q.scale) + q.zero_point, q.quant_min, q.quant_max).to(torch.uint8)


def conv2d_sums(
    x: Tensor,
    zero_point: int,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Integer sums of a convolution: uint8 (N, C, H, W) and int8 (K, C / groups, R, S) -> int64 (N, K, H', W').

    Padding stands for a real zero, which is stored as the zero point; after subtracting it, padding is plain 0.
    """
    n, c, _, _ = x.shape
    k, per_group, r, s = weight.shape
    shifted = F.pad(x.long() - zero_point, (padding[1], padding[1], padding[0], padding[0]))
    height = (shifted.shape[2] - dilation[0] * (r - 1) - 1) // stride[0] + 1
    width = (shifted.shape[3] - dilation[1] * (s - 1) - 1) // stride[1] + 1
    grouped = shifted.view(n, groups, c // groups, *shifted.shape[2:])
    filters = weight.long().view(groups, k // groups, per_group, r, s)
    sums = torch.zeros(n, groups, k // groups, height, width, dtype=torch.int64)
    for i in range(r):
        for j in range(s):
            top, left = i * dilation[0], j * dilation[1]
            window = grouped[
                ...,
                top : top + (height - 1) * stride[0] + 1 : stride[0],
                left : left + (width - 1) * stride[1] + 1 : stride[1],
            ]
            sums += (filters[None, ..., i, j, None, None] * window[:, :, None]).sum(3)
    return sums.view(n, k, height, width)


def linear_sums(x: Tensor, zero_point: int, weight: Tensor) -> Tensor:
    """Integer sums of a linear layer: uint8 (N, C) and int8 (K, C) -> int64 (N, K)."""
    return (x.long() - zero_point) @ weight.long().T
