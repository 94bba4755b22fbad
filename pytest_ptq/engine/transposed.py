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
    """(N, groups * s * ... * K, L, ...) -> (N, groups * K, L * s, ...): what belongs side by side, without a margin.

    Channels come as K at a time that stay together, which is how they lie in memory, channels last.

    Args:
        stride: how many groups of K channels lie side by side in each dimension.
        before, after: how much is cut off at either end of each dimension.
        groups: of the convolution.
        kernel: of the transposed convolution that it stands for.
    """

    def __init__(
        self, stride: Sequence[int], before: Sequence[int], after: Sequence[int], groups: int, kernel: Sequence[int]
    ) -> None:
        super().__init__()
        self.stride, self.before, self.after = tuple(stride), tuple(before), tuple(after)
        self.groups, self.kernel = groups, tuple(kernel)

    def forward(self, x: Tensor) -> Tensor:
        dims = len(self.stride)
        size = x.shape[2:]
        x = x.permute(0, *range(2, 2 + dims), 1).unflatten(-1, (self.groups, *self.stride, -1))  # type: ignore[no-untyped-call]
        places = [n for d in range(dims) for n in (1 + d, 2 + dims + d)]
        x = x.permute(0, *places, 1 + dims, 2 + 2 * dims)
        x = x.reshape(x.shape[0], *(n * s for n, s in zip(size, self.stride, strict=True)), -1)
        for d, (start, end) in enumerate(zip(self.before, self.after, strict=True)):
            x = x.narrow(1 + d, start, x.shape[1 + d] - start - end)
        return x.contiguous().movedim(-1, 1)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, before={self.before}, after={self.after}, groups={self.groups}"


def can_be_convolution(layer: nn.Module | None) -> bool:
    """Without dilation: with it, taps of one remainder are no longer every s-th."""
    return type(layer) in TRANSPOSED and set(layer.dilation) == {1}  # type: ignore[union-attr,arg-type]


def as_convolution(layer: nn.modules.conv._ConvTransposeNd) -> tuple[ConvBlock | Conv3dBlock, Interleave, Tensor]:
    """A transposed convolution as a convolution and what lays its outputs side by side.

    The third value says, for each channel of the convolution, which of the layer's it belongs to.
    """
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
    channels = torch.arange(layer.out_channels).view(groups, 1, -1).expand(-1, math.prod(stride), -1).flatten()
    bias = None if layer.bias is None else layer.bias.detach()[channels]
    interleave = Interleave(stride, padding, after, groups, kernel)
    around: Any = tuple(t - 1 for t in taps)
    if weight.ndim == 5:
        return Conv3dBlock(weight, bias, (1, 1, 1), around, (1, 1, 1), groups), interleave, channels
    if weight.ndim == 4:
        return ConvBlock(weight, bias, (1, 1), around, (1, 1), groups), interleave, channels
    return Conv1dBlock(weight.unsqueeze(2), bias, (1, 1), (0, *around), (1, 1), groups), interleave, channels


def _rearranged(weight: Tensor, stride: Sequence[int], taps: Sequence[int], groups: int) -> Tensor:
    """(C, K / groups, ...) -> (groups * s * ... * K / groups, C / groups, taps, ...)."""
    dims = len(stride)
    missing = [t * s - k for t, s, k in zip(taps, stride, weight.shape[2:], strict=True)]
    weight = F.pad(weight, [n for m in reversed(missing) for n in (0, m)])
    parts = [n for t, s in zip(taps, stride, strict=True) for n in (t, s)]
    weight = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], *parts)
    tap, remainder = range(3, 3 + 2 * dims, 2), range(4, 4 + 2 * dims, 2)
    weight = weight.flip(*tap).permute(0, *remainder, 2, 1, *tap)
    return weight.reshape(-1, weight.shape[2 + dims], *taps)


class Transposed(nn.Module):
    """The float transposed convolution that a block and its Interleave stand for: what torch is fastest at."""

    def __init__(self, block: ConvBlock | Conv3dBlock, interleave: Interleave) -> None:
        super().__init__()
        self.block, self.interleave = [block], interleave  # in a list: it only describes, and is no child
        stride, groups, kernel = interleave.stride, interleave.groups, interleave.kernel
        weight = block.weight.squeeze(2) if isinstance(block, Conv1dBlock) else block.weight
        dims, taps = len(stride), weight.shape[2:]
        weight = weight.reshape(groups, *stride, -1, *weight.shape[1:])
        tap, remainder = range(3 + dims, 3 + 2 * dims), range(1, 1 + dims)
        pairs = [n for both in zip(tap, remainder, strict=True) for n in both]
        weight = weight.flip(*tap).permute(0, 2 + dims, 1 + dims, *pairs)
        sizes = [t * s for t, s in zip(taps, stride, strict=True)]
        weight = weight.reshape(-1, weight.shape[2], *sizes)
        for d, k in enumerate(kernel):
            weight = weight.narrow(2 + d, 0, k)
        layout = torch.channels_last if dims == 2 else torch.contiguous_format
        self.weight = weight.contiguous(memory_format=layout)
        bias = block.bias
        self.bias = None if bias is None else bias.view(groups, math.prod(stride), -1)[:, 0].flatten()
        sides = zip(sizes, kernel, interleave.before, interleave.after, strict=True)
        self.more = [size - k + p - after for size, k, p, after in sides]
        self.function: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]

    def forward(self, x: Tensor) -> Tensor:
        i = self.interleave
        return self.block[0].activate(self.function(x, self.weight, self.bias, i.stride, i.before, self.more, i.groups))
