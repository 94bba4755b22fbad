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
    """Images to correct by, and every fourth batch (or image, where there are few batches) to compare on.

    The same single image serves both when there is no other.
    """
    parts = list(batches) if len(batches) >= 4 else [x for b in batches for x in torch.split(b, 1)]
    kept, apart = [b for i, b in enumerate(parts) if i % 4 != 3], parts[3::4]
    return (kept, apart) if apart else (parts, parts)


@torch.no_grad()
def sqnr_db(reference: fx.GraphModule, other: fx.GraphModule, batches: Iterable[Tensor]) -> float:
    """SQNR in dB of all floating-point outputs together, over several batches."""
    signal = noise = 0.0
    for x in batches:
        for a, b in zip(_tensors(reference(x)), _tensors(other(x)), strict=True):
            signal += float(a.double().square().sum())
            noise += float((a.double() - b.double()).square().sum())
    if not noise:
        return CAP_DB
    return max(min(10 * math.log10(signal / noise), CAP_DB), -CAP_DB) if signal else -CAP_DB


def _tensors(output: Any) -> list[Tensor]:
    """In whatever containers a model returns them."""
    return [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]
