"""Signal-to-quantization-noise ratio, of one pair of tensors or of a stream of them."""

from __future__ import annotations

import math

from torch import Tensor

CAP_DB = 200.0
"""Reported for outputs that are equal bit for bit, whose ratio would be infinite."""


class Noise:
    """Signal and error power, added up over batches."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, reference: Tensor, other: Tensor) -> None:
        """Take in one pair of equal shapes."""
        self._signal += float(reference.double().square().sum())
        self._noise += float((reference.double() - other.double()).square().sum())

    @property
    def db(self) -> float:
        """10 log10 of signal power over error power, in dB; NaN when either was no number."""
        if not self._noise:
            return CAP_DB
        if not self._signal:
            return -CAP_DB
        return max(min(10 * math.log10(self._signal / self._noise), CAP_DB), -CAP_DB)


def sqnr_db(reference: Tensor, other: Tensor) -> float:
    """10 log10 of signal power over error power, in dB."""
    noise = Noise()
    noise.add(reference, other)
    return noise.db
