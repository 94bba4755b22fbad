"""Latency samples in pytest-benchmark's own tables: its `benchmark` fixture, with a timer that replays them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ptq.metrics import LATENCY_RATIO, Measurement

if TYPE_CHECKING:
    from pytest_ptq.measure.latency import LatencySamples
    from pytest_ptq.plugin.check import Check

MS_PER_S = 1000.0


class ReplayTimer:
    """A clock that stands still except for the samples it is told to let pass, in seconds.

    Each sample starts again from zero, so that `end - start` is the sample itself and not a rounded difference.
    """

    __name__ = "pytest_ptq.replayed_samples"

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def rewind(self) -> None:
        self._now = 0.0

    def replay(self, seconds: list[float]) -> Callable[[], None]:
        """A function that takes as long as the next sample each time it is called, over and over."""
        samples = cycle(seconds)

        def run() -> None:
            self._now += next(samples)

        return run


def replay_mark(group: str) -> pytest.MarkDecorator:
    """The mark that makes an item's `benchmark` fixture use a replaying timer."""
    return pytest.mark.benchmark(timer=ReplayTimer(), group=group)


def publish(node: pytest.Item, benchmark: Any, check: Check) -> None:
    """Measure latency and hand the int8 samples to pytest-benchmark; fp32 and the ratio go to `extra_info`.

    Args:
        node: the test item, carrying `replay_mark`.
        benchmark: pytest-benchmark's fixture, enabled or not.
        check: what measures.
    """
    try:
        samples, ratio = check.latency()
    except BaseException:
        # pytest-benchmark warns of a fixture that was never used; here nothing could be measured, and that fails.
        benchmark.disabled = True
        benchmark.pedantic(_nothing)
        raise
    mark = node.get_closest_marker("benchmark")
    if mark is None or not isinstance(mark.kwargs.get("timer"), ReplayTimer):
        raise TypeError("the item has no replaying timer")  # a fault of this plugin, not of a user
    timer: ReplayTimer = mark.kwargs["timer"]
    benchmark.extra_info.update(extra_info(samples, ratio))
    run = timer.replay([ms / MS_PER_S for ms in samples.int8_ms])
    benchmark.pedantic(run, setup=timer.rewind, rounds=len(samples.int8_ms))


def extra_info(samples: LatencySamples, ratio: Measurement) -> dict[str, Any]:
    """What stands beside the int8 samples in pytest-benchmark's JSON; milliseconds unless the key says otherwise.

    `process_of` numbers the process that each sample comes from: those of one are not independent.
    """
    return {
        "fp32_ms": list(samples.fp32_ms),
        "process_of": [number for number, pairs in enumerate(samples.processes) for _ in pairs.variant_ms],
        "threads": samples.threads,
        LATENCY_RATIO.key: ratio.value,
        f"{LATENCY_RATIO.key}_low": ratio.low,
        f"{LATENCY_RATIO.key}_high": ratio.high,
        f"{LATENCY_RATIO.key}_samples": ratio.samples,
    }


def _nothing() -> None:
    """Stands in for a measurement that did not take place."""
