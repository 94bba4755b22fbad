"""Transposed convolutions, as convolutions whose outputs are laid side by side.

With a stride of s, `out[s q + r] = sum over a of x[q - a] w[s a + r]`: for each remainder r an ordinary convolution of
stride 1 with every s-th weight (Shi et al., arXiv 1609.07009, section 3: a deconvolution is a convolution in the space
of the input and a shuffle). All remainders together are one convolution with s times as many channels for each
dimension, for which there is an int8 kernel; what moves its results into place moves integers as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ptq.engine.blocks import Conv1dBlock, Conv3dBlock, ConvBlock

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Interleave(nn.Module):
    """(N, K * s * ..., L, ...) -> (N, K, L * s, ...): channels that belong side by side, without a margin.

    Args:
        stride: how many channels lie side by side in each dimension.
        before, after: how much is cut off at either end of each dimension.
    """

    def __init__(self, stride: Sequence[int], before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__()
        self.stride, self.before, self.after = tuple(stride), tuple(before), tuple(after)

    def forward(self, x: Tensor) -> Tensor:
        dims = len(self.stride)
        x = x.unflatten(1, (-1, *self.stride))  # type: ignore[no-untyped-call]
        order = [n for d in range(dims) for n in (2 + dims + d, 2 + d)]
        x = x.permute(0, 1, *order)
        for d in range(dims):
            x = x.flatten(2 + d, 3 + d)
        for d, (start, end) in enumerate(zip(self.before, self.after, strict=True)):
            x = x.narrow(2 + d, start, x.shape[2 + d] - start - end)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.contiguous()

    def extra_repr(self) -> str:
        return f"stride={self.stride}, before={self.before}, after={self.after}"


def can_be_convolution(layer: nn.Module | None) -> bool:
    """Without dilation: with it, taps of one remainder are no longer every s-th."""
    return type(layer) in TRANSPOSED and set(layer.dilation) == {1}  # type: ignore[union-attr,arg-type]


def as_convolution(layer: nn.modules.conv._ConvTransposeNd) -> tuple[ConvBlock | Conv3dBlock, Interleave]:
    """A transposed convolution as a convolution and what lays its outputs side by side."""
    kernel, stride, groups = layer.weight.shape[2:], layer.stride, layer.groups
    padding: Any = layer.padding
    more = layer.output_padding
    # Taps of one remainder; one more where what output_padding adds lies beyond them.
    taps = [
        math.ceil((k + max(extra - p, 0)) / s) for k, s, p, extra in zip(kernel, stride, padding, more, strict=True)
    ]
    sides = zip(kernel, stride, padding, more, taps, strict=True)
    after = [t * s - k + p - extra for k, s, p, extra, t in sides]
    weight = _rearranged(layer.weight.detach(), stride, taps, groups)
    bias = None if layer.bias is None else layer.bias.detach().repeat_interleave(math.prod(stride))
    interleave = Interleave(stride, padding, after)
    around: Any = tuple(t - 1 for t in taps)
    if weight.ndim == 5:
        return Conv3dBlock(weight, bias, (1, 1, 1), around, (1, 1, 1), groups), interleave
    if weight.ndim == 4:
        return ConvBlock(weight, bias, (1, 1), around, (1, 1), groups), interleave
    return Conv1dBlock(weight.unsqueeze(2), bias, (1, 1), (0, *around), (1, 1), groups), interleave


def _rearranged(weight: Tensor, stride: Sequence[int], taps: Sequence[int], groups: int) -> Tensor:
    """(C, K / groups, ...) -> (K * s * ..., C / groups, taps, ...)."""
    dims = len(stride)
    missing = [t * s - k for t, s, k in zip(taps, stride, weight.shape[2:], strict=True)]
    weight = F.pad(weight, [n for m in reversed(missing) for n in (0, m)])
    parts = [n for t, s in zip(taps, stride, strict=True) for n in (t, s)]
    weight = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], *parts)
    tap, remainder = range(3, 3 + 2 * dims, 2), range(4, 4 + 2 * dims, 2)
    weight = weight.flip(*tap).permute(0, 2, *remainder, 1, *tap)
    return weight.reshape(-1, weight.shape[2 + dims], *taps)
