"""Which images a loader has given: 32 bytes of hash for each, and 16 more once an image is looked for.

Evaluation sets are streamed because they are large; hashes as text in a dictionary would take more than the answers.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
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
        self._starts: list[int] = []
        self._index: tuple[Tensor, Tensor] | None = None

    def add(self, digests: bytes) -> None:
        """Those of the next batch."""
        self._starts.append(self._starts[-1] + len(self.batches[-1]) // SIZE if self.batches else 0)
        self.batches.append(digests)
        self._index = None

    def find(self, digests: bytes) -> list[tuple[int, int] | None]:
        """Batch and place in it where each of these images was first met; None where it was not.

        The index is made anew where batches have come since: for whoever looks when a pass is over, once.
        """
        import torch

        found: list[tuple[int, int] | None] = [None] * (len(digests) // SIZE)
        if not found or not any(self.batches):
            return found
        if self._index is None:
            self._index = torch.sort(_words(b"".join(self.batches)), stable=True)
        words, order = self._index
        wanted = _words(digests)
        first = torch.searchsorted(words, wanted)
        alike = (words[first.clamp(max=len(words) - 1)] == wanted).nonzero().flatten().tolist()
        for image in alike:
            digest = digests[image * SIZE : (image + 1) * SIZE]
            last = int(torch.searchsorted(words, wanted[image], right=True))
            places = map(self._place, order[int(first[image]) : last].tolist())
            found[image] = next((at for at in places if self._at(*at) == digest), None)
        return found

    def _place(self, number: int) -> tuple[int, int]:
        batch = bisect_right(self._starts, number) - 1
        return batch, number - self._starts[batch]

    def _at(self, batch: int, image: int) -> bytes:
        return self.batches[batch][image * SIZE : (image + 1) * SIZE]


def _words(digests: bytes) -> Tensor:
    """The first eight bytes of each hash as a number, int64 (images,)."""
    import torch

    return torch.frombuffer(bytearray(digests), dtype=torch.int64)[:: SIZE // 8].contiguous()
