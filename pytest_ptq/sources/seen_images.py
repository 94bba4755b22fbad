"""Which images a loader has given: 32 bytes of hash for each, and a set of them only where one is looked for.

Evaluation images are streamed because they are many, and looked for is whether one of them is among the calibration
images, which are few. Hashes as text in a dictionary would take three times what the answers do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SIZE = hashlib.sha256().digest_size


def digests_of(batch: Tensor) -> bytes:
    """SHA-256 of each image's bytes, one after the other."""
    import torch

    count = len(batch) if batch.ndim else 1
    rows = batch.detach().cpu().contiguous().reshape(count, batch.numel() // max(1, count))
    # As bytes, because numpy knows no bfloat16.
    return b"".join(hashlib.sha256(row.view(torch.uint8).numpy().data).digest() for row in rows)


def each(digests: bytes) -> Iterator[bytes]:
    """One hash at a time."""
    return (digests[at : at + SIZE] for at in range(0, len(digests), SIZE))


class SeenImages:
    """The hashes of the images of each batch, in the order of the batches."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self._known: frozenset[bytes] | None = None

    def add(self, digests: bytes) -> None:
        """Those of the next batch."""
        self.batches.append(digests)
        self._known = None

    def some_of(self, digests: bytes) -> bool:
        """Whether one of these images is known.

        What is looked in is made anew when batches have come since: for whoever looks when a pass is over.
        """
        if self._known is None:
            self._known = frozenset(digest for batch in self.batches for digest in each(batch))
        return not self._known.isdisjoint(each(digests))

    def places(self) -> dict[bytes, tuple[int, int]]:
        """Batch and place in it where each image was first met."""
        found: dict[bytes, tuple[int, int]] = {}
        for number, batch in enumerate(self.batches):
            for place, digest in enumerate(each(batch)):
                found.setdefault(digest, (number, place))
        return found
