"""Stands in for the processes that time models: answers at once, with times that a test chose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_ptq.measure.load import Load
from pytest_ptq.measure.pairs import Pairs, ProcessTimes
from pytest_ptq.measure.processes import CONTROL, REFERENCE, Job


class Clockwork:
    """Every process times fp32 at `fp32_ms` and int8 at the next of `int8_ms`, a tuple of times for each process."""

    def __init__(
        self, *int8_ms: Sequence[float], fp32_ms: float = 1.0, other: float = 0.0, spread: float = 0.01
    ) -> None:
        steady = [[0.5 * fp32_ms * (1 + spread * (i % 3 - 1))] * 6 for i in range(3)]
        self._int8 = [list(times) for times in int8_ms] or steady
        self._fp32, self._other = fp32_ms, other
        self.processes = 0

    def __call__(self, job: Job, seeds: Sequence[int], at_once: int) -> Iterator[ProcessTimes]:
        for _ in seeds:
            int8 = self._int8[self.processes % len(self._int8)]
            self.processes += 1
            timed = {name: self._pairs(int8) for name in job.models if name != REFERENCE}
            control = self._pairs([self._fp32] * len(int8))
            yield ProcessTimes({**timed, CONTROL: control}, Load(self._other, 0.0), 3, 0.0, 80.0)

    def _pairs(self, variant: Sequence[float]) -> Pairs:
        count = len(variant)
        order = tuple(i % 2 == 0 for i in range(count))
        return Pairs((self._fp32,) * count, tuple(variant), order)
