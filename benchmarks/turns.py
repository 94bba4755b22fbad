"""Programs of one machine taking turns by locked files: none prepares anything while another one times something."""

from __future__ import annotations

import argparse
import fcntl
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
HELD_S = 40.0
"""For how long one program times without giving others a turn."""


class Turns:
    """Whoever times holds the files locked for itself, in their order; whoever prepares shares the last one.

    With two files, the first is a gate: it is held by who waits to time, so that nobody begins to prepare meanwhile.

    Args:
        locks: the files, made where they are missing; without any, there are no turns.
    """

    def __init__(self, locks: Sequence[Path] = ()) -> None:
        self._locks = locks

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Waits until nobody prepares or times."""
        with ExitStack() as stack:
            for path in self._locks:
                fcntl.flock(stack.enter_context(path.open("a")), fcntl.LOCK_EX)
            yield

    def each(self, items: Iterable[_T]) -> Iterator[_T]:
        """The items, each to be timed while it is at hand; others have their turn from time to time."""
        left = list(items)
        while left:
            with self.timing():
                until = time.monotonic() + HELD_S
                while left and time.monotonic() < until:
                    yield left.pop(0)

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Waits until nobody times."""
        for path in self._locks[:-1]:
            with path.open("a") as gate:
                fcntl.flock(gate, fcntl.LOCK_EX)
        with ExitStack() as stack:
            for path in self._locks[-1:]:
                fcntl.flock(stack.enter_context(path.open("a")), fcntl.LOCK_SH)
            yield


def add_locks(parser: argparse.ArgumentParser) -> None:
    """The option `--lock`, whose files make `Turns`."""
    text = "where others use the machine: a file to hold locked while something is timed; repeatable, locked in order"
    parser.add_argument("--lock", action="append", default=[], type=Path, metavar="FILE", help=text)
