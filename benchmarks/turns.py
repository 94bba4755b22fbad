"""Programs of one machine taking turns by locked files: none prepares anything while another one times something."""

from __future__ import annotations

import argparse
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


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
