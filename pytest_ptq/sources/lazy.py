"""Batches that are made when they are asked for, can be asked for again, and know how many they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Lazy(Generic[T_co]):
    """`make` of each slice of `batch_size` items in turn; the last slice may be shorter.

    Args:
        items: how many items there are.
        batch_size: items a slice.
        make: turns a slice of the items into a batch.
    """

    def __init__(self, items: int, batch_size: int, make: Callable[[slice], T_co]):
        self._items, self._batch_size, self._make = items, batch_size, make

    def __len__(self) -> int:
        return -(-self._items // self._batch_size)

    def __iter__(self) -> Iterator[T_co]:
        for start in range(0, self._items, self._batch_size):
            yield self._make(slice(start, min(start + self._batch_size, self._items)))
