"""How whoever runs a suite is told how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

Progress: TypeAlias = Callable[[Iterable[Any], str, int | None], Iterator[Any]]
"""progress(iterable, title, total) yields the items and shows how far it is."""


def silent(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
    """Progress for those who want none."""
    yield from items
