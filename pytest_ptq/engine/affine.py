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
INT16 = 32767
UINT7 = (0, 127)
"""Seven bits: two products with any int8 weights fit into int16. What reduce_range meant in files from before."""
PAIRED = (0, 181)
"""The range of an activation under reduce_range, where its products with weights are added in pairs.

Two products fit into int16 when the largest activation times the two weights together does: what is taken from the one
is left to the other. 181 is the root of 32767: half a bit less for each.
"""
WEIGHT_MAX = 127
"""Weights use -127..127, so that the range is symmetric and -w is representable whenever w is."""
SMALLEST_SCALE = 1e-12
"""Scale of a tensor or channel that is zero everywhere: any positive number would do, a tiny one cannot overflow."""


CLIPS = (1.0, *(1 - 0.002 * 400 ** (i / 39) for i in range(40)))
"""The parts of its largest magnitude that a clipped weight is tried at: close together at the top, down to 0.2."""


@dataclass(frozen=True)
class QParams:
    """How one activation is stored: uint8 within quant_min..quant_max."""

    scale: float
    zero_point: int
    quant_min: int = 0
    quant_max: int = 255


def choose_qparams(low: float, high: float, bounds: tuple[int, int] = UINT8, symmetric: bool = False) -> QParams:
    """Scale and zero point that cover low..high, with zero exactly representable.

    Args:
        low, high: the real range; it is widened to contain zero, because padding and ReLU produce exact zeros.
        bounds: smallest and largest integer.
        symmetric: as many integers on either side of zero, whose own is in the middle (128, 64 of seven bits); a
            range without negative numbers keeps all integers, and its zero point of 0.
    """
    quant_min, quant_max = bounds
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric and low < 0:
        half = half_steps(bounds)
        scale = max(max(-low, high) / half, SMALLEST_SCALE)
        return QParams(scale, quant_max - half, quant_min, quant_max)
    scale = max((high - low) / (quant_max - quant_min), SMALLEST_SCALE)
    zero_point = quant_min - round(low / scale)
    return QParams(scale, min(max(zero_point, quant_min), quant_max), quant_min, quant_max)


def half_steps(bounds: tuple[int, int]) -> int:
    """How many integers a symmetric tensor has on either side of its zero point: 127 of eight bits, 63 of seven."""
    return (bounds[1] - bounds[0]) // 2


def quantize(x: Tensor, q: QParams) -> Tensor:
    """Round half to even, shift, saturate: float tensor -> uint8 tensor of the same shape."""
    return torch.clamp(torch.round(x.double() / q.scale) + q.zero_point, q.quant_min, q.quant_max).to(torch.uint8)


def dequantize(x: Tensor, q: QParams) -> Tensor:
    """uint8 tensor -> float32 tensor of the same shape."""
    return (x.double() - q.zero_point).mul(q.scale).float()


def weight_scales(weight: Tensor, per_channel: bool, largest: int | None = None) -> Tensor:
    """Symmetric scales of a weight (out_channels, ...): float32 (out_channels,), all equal when not per channel.

    Args:
        largest: the largest integer of what the weight is multiplied with, under reduce_range: no two neighbours are
            then so large together that the sum of their products leaves int16.
    """
    rows = weight.detach().flatten(1)
    steps = torch.maximum(rows.amax(1), -rows.amin(1)) / WEIGHT_MAX
    if largest is not None:
        # Each of the two may be rounded up, by as much as one where it is searched which way.
        steps = torch.maximum(steps, _largest_pair(weight.detach()) / (INT16 // largest - 2))
    if not per_channel:
        steps = steps.max().expand_as(steps)
    return steps.clamp_min(SMALLEST_SCALE).float().contiguous()


def adds_in_pairs(weight: Tensor) -> bool:
    """Whether a kernel without VNNI adds two products of this weight (out_channels, inputs, ...) in int16.

    Neighbours are inputs 2j and 2j + 1 at one place of the window (see `engine/inspect/saturation.py`): a depthwise
    convolution has none.
    """
    return weight.shape[1] > 1


def _largest_pair(weight: Tensor) -> Tensor:
    """The largest sum of two neighbours of one sign in each output channel: (out_channels,)."""
    if not adds_in_pairs(weight):
        return torch.zeros(len(weight), dtype=weight.dtype)
    inputs = weight.reshape(*weight.shape[:2], -1)
    padded = F.pad(inputs, (0, 0, 0, inputs.shape[1] % 2))
    first, second = padded[:, 0::2], padded[:, 1::2]
    up = first.clamp_min(0) + second.clamp_min(0)
    down = first.clamp_max(0) + second.clamp_max(0)
    return torch.maximum(up, -down).flatten(1).amax(1)


def clip_weight(weight: Tensor, per_channel: bool, largest: int | None = None) -> Tensor:
    """Weight (out_channels, ...) clipped where its squared quantization error is smallest, of the same shape and type.

    For each channel, or for the whole weight, that one of CLIPS is taken at which rounding and clipping together err
    least (Choukroun et al., arXiv 1902.06822: the scale of minimal squared error). Of what is returned `weight_scales`,
    with the same `largest`, finds the scale that belongs to it.
    """
    rows = weight.detach().double().reshape(len(weight) if per_channel else 1, -1)
    extremes = rows.abs().amax(1, keepdim=True).clamp_min(SMALLEST_SCALE)
    best, threshold = torch.full_like(extremes, torch.inf), extremes
    for part in CLIPS:
        clipped = rows.clamp(-part * extremes, part * extremes)
        scales = weight_scales(clipped.view(weight.shape), per_channel, largest).double()
        step = scales[: len(rows), None]
        error = (clipped / step).round_().mul_(step).sub_(rows)
        squared = error.square_().sum(1, keepdim=True)
        threshold = torch.where(squared < best, part * extremes, threshold)
        best = torch.minimum(squared, best)
    return rows.clamp(-threshold, threshold).view_as(weight).to(weight.dtype)


def quantize_weight(weight: Tensor, scales: Tensor) -> Tensor:
    """Weight (out_channels, ...) -> int8 tensor of the same shape, with one scale an output channel."""
    steps = weight.detach() / scales.view(-1, *[1] * (weight.ndim - 1))
    return steps.round_().clamp_(-WEIGHT_MAX, WEIGHT_MAX).to(torch.int8)


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
