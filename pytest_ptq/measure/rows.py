"""What a model answers batch by batch, as one tensor at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 4096
"""Rows that are allocated at a time."""


class Rows:
    """Rows of one tensor, copied into large blocks as they come.

    The answers to a batch are small, and come while its activations lie around them: kept where they were made, they
    would keep the heap in pieces.
    """

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []
        self._room = 0

    def add(self, rows: Tensor) -> None:
        """The next rows (n, ...), of the dtype and the further sizes of the first."""
        import torch

        start = 0
        while start < len(rows):
            if not self._room:
                self._blocks.append(torch.empty((BLOCK, *rows.shape[1:]), dtype=rows.dtype, device="cpu"))
                self._room = BLOCK
            some = rows[start : start + self._room]
            self._blocks[-1].narrow(0, BLOCK - self._room, len(some)).copy_(some)
            self._room, start = self._room - len(some), start + len(some)

    def __len__(self) -> int:
        return BLOCK * len(self._blocks) - self._room

    def take(self) -> Tensor:
        """All rows (N, ...). Given up block by block, so that there are not two of each. Raises IndexError: none."""
        import torch

        count, at = len(self), 0
        whole = torch.empty((count, *self._blocks[0].shape[1:]), dtype=self._blocks[0].dtype, device="cpu")
        while self._blocks:
            some = self._blocks.pop(0)[: count - at]
            whole[at : at + len(some)] = some
            at += len(some)
        self._room = 0
        return whole
