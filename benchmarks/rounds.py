"""Pieces of work timed in turns in this process, so that whatever slows the machine for a while slows all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.turns import Turns
from pytest_ptq.measure.conditions import resting_gc

Work = Callable[[], Callable[[], Any]]
"""Gets ready, which is not timed, and returns what is."""


def in_rounds(
    works: Mapping[str, Work],
    rounds: int,
    turns: Turns,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each in every round, in random order within a round. One round more goes before, to warm up.

    Args:
        works: by name.
        rounds: how many.
        turns: taken for some rounds together.
        clock: seconds.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in turns.each(range(-1, rounds)):
        order = list(works)
        random.Random(number).shuffle(order)
        for name in order:
            run = works[name]()
            with resting_gc():
                start = clock()
                run()
                took = clock() - start
            if number >= 0:
                found[name].append(took)
    return found
