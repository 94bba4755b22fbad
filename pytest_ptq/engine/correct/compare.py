"""Whether a correction helped: measured on calibration images that it has not seen, never taken on trust."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from pytest_ptq.engine.calibrate import check_batch

IMAGES = 256
"""How many calibration images corrections look at: enough for a mean, and what they keep in memory stays bounded."""
BATCH = 32
"""Images that corrections run at a time: enough to hide what a call costs."""
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


def halves(batches: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Two halves of the images, in few batches: every other image where all are of one size, else as `split`."""
    if len({x.shape[1:] for x in batches}) > 1:
        return split(batches)
    images = torch.cat(list(batches))
    parts = (images[::2], images[1::2]) if len(images) > 1 else (images, images)
    return list(torch.split(parts[0], BATCH)), list(torch.split(parts[1], BATCH))


def sqnr_db(reference: fx.GraphModule, other: fx.GraphModule, batches: Iterable[Tensor]) -> float:
    """SQNR in dB of all floating-point outputs together, over several batches."""
    powers = Powers()
    with torch.no_grad():
        for x in batches:
            powers.add(reference(x), other(x))
    return powers.sqnr_db()


class Powers:
    """Signal and error power of all floating-point outputs together, over batches that stream by."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    def add(self, expected: Any, found: Any) -> None:
        """What two models answer to one batch, in whatever containers."""
        for a, b in zip(_tensors(expected), _tensors(found), strict=True):
            self.signal += float(a.double().square().sum())
            self.noise += float((a.double() - b.double()).square().sum())

    def sqnr_db(self) -> float:
        if not self.noise:
            return CAP_DB
        return max(min(10 * math.log10(self.signal / self.noise), CAP_DB), -CAP_DB) if self.signal else -CAP_DB


def _tensors(output: Any) -> list[Tensor]:
    """In whatever containers a model returns them."""
    return [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]
