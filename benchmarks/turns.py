"""Benchmarks of one machine taking turns: none is timed while another one is."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path


def alone(locks: Sequence[Path]) -> Callable[[], AbstractContextManager[None]]:
    """What holds all these files locked while it is entered, locked in their order; waits for whoever has them."""

    @contextmanager
    def held() -> Iterator[None]:
        with ExitStack() as stack:
            for path in locks:
                file = stack.enter_context(path.open("a"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    return held
