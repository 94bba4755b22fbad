"""Milliseconds of several models, each alone in fresh processes, in turn: which of them is the fastest here and now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.pairs import ProcessTimes
from pytest_ptq.measure.processes import CONTROL, Job, run_processes

ROUNDS = 3
"""Processes of each: they choose between runtimes, and nothing is judged by them."""
TRIES = 3
"""How often a process is begun again that had to share the machine."""
Spawn = Callable[[Job, Sequence[int]], Iterator[ProcessTimes]]


def time_in_turn(
    jobs: Mapping[str, Job], rounds: int = ROUNDS, spawn: Spawn = run_processes
) -> Iterator[tuple[str, float | MeasurementError]]:
    """Time the reference of each job, that of one job in a process, so that no thread pool disturbs another's.

    In each round every job has its turn, in the other direction from round to round: what the machine does for a while,
    it does to all of them.

    Args:
        jobs: by name; only their REFERENCE is timed, which is their control, too.
        rounds: processes of each.
        spawn: runs processes.

    Yields:
        (name, median milliseconds in one process) as each is done, or what went wrong; a job that failed has no
        further turn.
    """
    failed: set[str] = set()
    for number in range(rounds):
        order = [name for name in jobs if name not in failed]
        for name in order if number % 2 == 0 else reversed(order):
            try:
                yield name, _one(jobs[name], number, spawn)
            except MeasurementError as error:
                failed.add(name)
                yield name, error


def _one(job: Job, number: int, spawn: Spawn) -> float:
    """In one process: both the reference and its control are the model."""
    times: list[float] = []
    for attempt in range(TRIES):
        (found,) = spawn(job, [TRIES * number + attempt])
        pairs = found.pairs[CONTROL]
        times = [*pairs.reference_ms, *pairs.variant_ms]
        if not found.crowded:
            break
    return median(times)
