"""Suite x QConfig -> Measurements. Knows no pytest: the plugin, a command line or a notebook can call it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_ptq.metrics import Measurement
from pytest_ptq.qconfig import QConfig
from pytest_ptq.suite import Dataset, Suite

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
Progress = Callable[[Iterable[T], str, int | None], Iterator[T]]
"""progress(iterable, title, total) yields the items and shows how far it is."""


def silent(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    yield from items
