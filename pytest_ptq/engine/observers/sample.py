"""Which values of a tensor are counted, and its extremes: both read in the order in which the tensor lies in memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COUNTED = 2**13
"""About how many values of an image a histogram takes at most; of a smaller tensor it takes all."""
RUN = 64
"""Shorter runs are a better sample, and longer ones no faster: a cache line holds 16 values."""


def extremes(x: Tensor) -> tuple[float, float]:
    """The smallest and the largest of all values; both are NaN where one of them is."""
    low, high = torch.aminmax(in_memory_order(x.detach()).reshape(-1))
    return float(low), float(high)


def sample(x: Tensor) -> tuple[Tensor, int]:
    """Values of `x` (images, ...) in a row, and for how many each of them stands.

    Of large images every so-manieth run is taken: up to RUN values that lie together in memory, such as channels of a
    pixel. The distance has no divisor in common with the runs of a line of pixels, so that the sample moves on from
    line to line, over all columns and channels. It follows from the shape of one image alone: how images are batched
    and in which order they come does not matter.
    """
    laid = in_memory_order(x.detach())
    run, every = runs(laid.shape)
    if every == 1:
        return laid.reshape(-1), 1
    return laid.reshape(len(laid), -1, run)[:, every // 2 :: every].reshape(-1), every


def runs(shape: torch.Size) -> tuple[int, int]:
    """How long a run is, and how many of them lie from one that is counted to the next; the shape in memory order."""
    values = math.prod(shape[1:])
    if len(shape) < 2 or values <= COUNTED:
        return 1, 1
    run, every = math.gcd(shape[-1], RUN), -(-values // COUNTED)
    line = math.prod(shape[max(1, len(shape) - 2) :]) // run
    while math.gcd(every, line) > 1:
        every += 1
    return run, every


def in_memory_order(x: Tensor) -> Tensor:
    """A view of `x` whose last dimension is the one that lies together in memory."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1)
    return x
