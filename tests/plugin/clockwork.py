"""Stands in for the processes that time models: answers at once, with times that a test chose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_ptq.measure.load import Load
from pytest_ptq.measure.pairs import Pairs, ProcessTimes
from pytest_ptq.measure.processes import CONTROL, REFERENCE, Job


class Clockwork:
    """Every process times fp32 at `fp32_ms` and int8 at the next of `int8_ms`, a tuple of times for each process.

    exchange: microseconds from core to core. kernels: by which int8 and fp32 ran; not_native: why by no compiled ones.
    """

    def __init__(
        self,
        *int8_ms: Sequence[float],
        fp32_ms: float = 1.0,
        other: float = 0.0,
        spread: float = 0.01,
        exchange: float = 0.0,
        kernels: tuple[str, str] | None = None,
        not_native: str = "",
    ) -> None:
        steady = [[0.5 * fp32_ms * (1 + spread * (i % 3 - 1))] * 6 for i in range(3)]
        self._int8 = [list(times) for times in int8_ms] or steady
        self._fp32, self._other = fp32_ms, other
        self._exchange, self._kernels, self._not_native = exchange, kernels, not_native
        self.processes = 0

    def __call__(self, job: Job, seeds: Sequence[int], at_once: int) -> Iterator[ProcessTimes]:
        for _ in seeds:
            int8 = self._int8[self.processes % len(self._int8)]
            self.processes += 1
            timed = {name: self._pairs(int8) for name in job.models if name != REFERENCE}
            ran, why = self._told(job.models)
            timed[CONTROL] = self._pairs([self._fp32] * len(int8))
            yield ProcessTimes(timed, Load(self._other, 0.0), 3, 0.0, 80.0, self._exchange, ran, why)

    def _told(self, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        if self._kernels is None:
            return {}, {}
        int8, fp32 = self._kernels
        ran = {name: fp32 if name == REFERENCE else int8 for name in names}
        return ran, {name: self._not_native for name, way in ran.items() if not way.startswith("native")}

    def _pairs(self, variant: Sequence[float]) -> Pairs:
        count = len(variant)
        order = tuple(i % 2 == 0 for i in range(count))
        return Pairs((self._fp32,) * count, tuple(variant), order)
