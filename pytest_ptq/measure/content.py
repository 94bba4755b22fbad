"""What data hold, in one hash: taken while batches go by to somebody who reads them anyway."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class Content:
    """SHA-256 of the inputs of every batch that was added, with their shapes, types and layout, in their order.

    How images are cut into batches, and how they lie in memory, belongs to it: kernels may sum in another order.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, x: Tensor) -> None:
        """One batch. What lies one after the other in memory is not copied."""
        import torch

        x = x.detach().cpu()
        last = x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        flat = (x.permute(0, 2, 3, 1) if last else x).contiguous().reshape(-1)
        self._hash.update(f"{x.dtype} {tuple(x.shape)} {'last' if last else 'first'};".encode())
        self._hash.update(flat.view(torch.uint8).numpy().data)

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches; each pair's input is added as it goes by. What is no pair is for the reader to refuse."""
        import torch

        for batch in batches:
            if isinstance(batch, (tuple, list)) and batch and isinstance(batch[0], torch.Tensor):
                self.add(batch[0])
            yield batch

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
