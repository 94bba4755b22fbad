"""Whether a correction helped: measured on calibration images that it has not seen, never taken on trust."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from pytest_ptq.engine.calibrate import check_batch

IMAGES = 256
"""How many calibration images corrections look at: enough for a mean, and what they keep in memory stays bounded."""
CAP_DB = 200.0


def take(batches: Iterable[Any], images: int = IMAGES) -> list[Tensor]:
    """The first batches, with at most `images` images together. Raises DataError for a batch that cannot be used."""
    found: list[Tensor] = []
    left = images
    for number, batch in enumerate(islice(batches, images)):
        x = check_batch(batch, number)[:left]
        found.append(x)
        left -= len(x)
        if left <= 0:
            break
    return found


def split(batches: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Two halves of the batches, or of the images where there are few batches: one to correct by, one to compare on.

    A single image serves as both.
    """
    parts = list(batches) if len(batches) >= 4 else [x for b in batches for x in torch.split(b, 1)]
    return (parts[::2], parts[1::2]) if len(parts) > 1 else (parts, parts)


def crossed(
    reference: fx.GraphModule,
    other: fx.GraphModule,
    correct: Callable[[Sequence[Tensor]], fx.GraphModule],
    batches: Sequence[Tensor],
) -> tuple[float, float]:
    """SQNR in dB without and with a correction, over all images: each half is judged by what the other half gave."""
    one, two = split(batches)
    before, after = Powers(), Powers()
    for by, on in ((one, two), (two, one)):
        corrected = correct(by)
        before.add(reference, other, on)
        after.add(reference, corrected, on)
    return before.sqnr_db(), after.sqnr_db()


def sqnr_db(reference: fx.GraphModule, other: fx.GraphModule, batches: Iterable[Tensor]) -> float:
    """SQNR in dB of all floating-point outputs together, over several batches."""
    powers = Powers()
    powers.add(reference, other, batches)
    return powers.sqnr_db()


class Powers:
    """Signal and error power of all floating-point outputs together, over batches that stream by."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    @torch.no_grad()
    def add(self, reference: fx.GraphModule, other: fx.GraphModule, batches: Iterable[Tensor]) -> None:
        for x in batches:
            for a, b in zip(_tensors(reference(x)), _tensors(other(x)), strict=True):
                self.signal += float(a.double().square().sum())
                self.noise += float((a.double() - b.double()).square().sum())

    def sqnr_db(self) -> float:
        if not self.noise:
            return CAP_DB
        return max(min(10 * math.log10(self.signal / self.noise), CAP_DB), -CAP_DB) if self.signal else -CAP_DB


def _tensors(output: Any) -> list[Tensor]:
    """In whatever containers a model returns them."""
    return [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]
