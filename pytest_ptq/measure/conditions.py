"""What is held still while something is timed, and given back afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """torch computes with this many threads inside, and with as many as before afterwards, whatever happens."""
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def resting_gc() -> Iterator[None]:
    """No garbage collection inside; afterwards it is on or off as it was before, whatever happens."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
