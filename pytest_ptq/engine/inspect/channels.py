"""Channels that always say the same, and values that lie beyond what is stored."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_ptq.engine.affine import QParams


class Channels:
    """Extremes by channel, and a count of clipped values, over batches.

    Args:
        dim: the dimension of the channels.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        self._values = self._clipped = 0
        self._stored = False

    def add(self, reference: Tensor, value: Tensor, q: QParams | None) -> None:
        """Take in what a layer should have said, what it said, and how that is stored (None: in fp32)."""
        others = [d for d in range(value.ndim) if d != self._dim % value.ndim]
        low, high = (value.amin(others), value.amax(others)) if others else (value, value)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)
        if q is not None:
            self._stored = True
            self._values += reference.numel()
            # Half a step further is still rounded to the outermost integer, as any other value would be.
            smallest, largest = (q.scale * (end - q.zero_point) for end in (q.quant_min - 0.5, q.quant_max + 0.5))
            self._clipped += int(((reference < smallest) | (reference > largest)).sum())

    @property
    def count(self) -> int:
        """How many channels there are."""
        return 0 if self._low is None else len(self._low)

    @property
    def dead(self) -> int:
        """How many of them had one and the same value for every image and place."""
        return 0 if self._low is None or self._high is None else int((self._low == self._high).sum())

    @property
    def clipped_percent(self) -> float | None:
        """Share of values that are further out than what is stored; None when none is stored in int8."""
        return 100 * self._clipped / self._values if self._stored else None
