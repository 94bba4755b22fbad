"""Pools of timed processes -> judgements, by the code that a session judges with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean

from benchmarks.gates_worker import AGAIN, INT8
from pytest_ptq.judge.gates import drift_verdict, limit_verdict
from pytest_ptq.measure.latency import PROTOCOL, Latency, median_log_ratio
from pytest_ptq.measure.latency_measurements import to_measurements
from pytest_ptq.measure.paired import wilson
from pytest_ptq.measure.pairs import ProcessTimes
from pytest_ptq.measure.processes import CONTROL, REFERENCE, Job
from pytest_ptq.metrics import LATENCY_RATIO, Limit, Measurement, Verdict

FAR = 0.05
"""How far above the truth the limit stands."""
RECORDED = PROTOCOL.processes + PROTOCOL.extension
RIVAL = 0.10
"""pytest-benchmark's `--benchmark-compare-fail=mean:10%`."""


@dataclass
class Count:
    """Verdicts, counted."""

    judged: int = 0
    second_looks: int = 0
    by_verdict: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Count) -> Count:
        keys = {*self.by_verdict, *other.by_verdict}
        together = {key: self.by_verdict.get(key, 0) + other.by_verdict.get(key, 0) for key in keys}
        return Count(self.judged + other.judged, self.second_looks + other.second_looks, together)

    def add(self, verdict: str, looks: int = 1) -> None:
        self.judged += 1
        self.second_looks += looks > 1
        self.by_verdict[verdict] = self.by_verdict.get(verdict, 0) + 1

    def share(self, verdict: str) -> str:
        """`97.5 % (39 of 40)`."""
        there = self.by_verdict.get(verdict, 0)
        return f"{100 * there / self.judged:.1f} % ({there})" if self.judged else "-"

    def cells(self) -> list[object]:
        """Judgements, alarms with their interval, inconclusive ones, second looks."""
        alarms = self.by_verdict.get("fail", 0)
        low, high = wilson(alarms, self.judged) if self.judged else (0.0, 1.0)
        between = f"{100 * low:.1f} - {100 * high:.1f} %"
        return [self.judged, self.share("fail"), between, self.share("inconclusive"), self.second_looks]


NAMES = {Verdict.FAIL: "fail", Verdict.PASS: "pass", Verdict.INCONCLUSIVE: "inconclusive"}


def truth(pool: Sequence[ProcessTimes], name: str = INT8) -> float:
    """The ratio of `name` to fp32 over all processes."""
    return math.exp(fmean(median_log_ratio(times.pairs[name]) for times in pool))


def sets(pool: Sequence[ProcessTimes]) -> Iterator[int]:
    """Where each session's processes begin: no process is in two first looks."""
    return iter(range(0, len(pool) - PROTOCOL.processes + 1, PROTOCOL.processes))


def measured(
    pool: Sequence[ProcessTimes], start: int, name: str, bound: Measurement | Limit
) -> tuple[Measurement, str]:
    """What a session finds that runs the pool's processes from `start` on, and its verdict."""

    def replay(job: Job, seeds: Sequence[int], at_once: int) -> Iterator[ProcessTimes]:
        return (pool[(start + seed) % len(pool)] for seed in seeds)

    latency = Latency(Job({REFERENCE: b"", name: b""}, (1,), 2), spawn=replay)

    def judged() -> Verdict:
        ratio = to_measurements(latency.samples(name))[LATENCY_RATIO.key]
        return limit_verdict(ratio, bound) if isinstance(bound, Limit) else drift_verdict(ratio, bound)

    verdict = judged()
    if verdict is Verdict.INCONCLUSIVE and latency.can_extend(name):
        latency.extend(name)
        verdict = judged()
    return to_measurements(latency.samples(name))[LATENCY_RATIO.key], NAMES[verdict]


def looks(ratio: Measurement) -> int:
    return int(ratio.details["looks"])


def aa(pool: Sequence[ProcessTimes], limit: float) -> dict[str, Count]:
    """Judgements of models that nothing was done to."""
    own = Limit(LATENCY_RATIO, limit, "")
    questions = {
        f"fp32 against itself, limit {1 + FAR:g}": (CONTROL, Limit(LATENCY_RATIO, 1 + FAR, "")),
        "int8 / fp32 against the limit": (INT8, own),
        "the same, int8 loaded once more": (AGAIN, own),
    }
    drift = "int8 / fp32 against what was recorded"
    counts = {question: Count() for question in (*questions, drift)}
    for start in sets(pool):
        for question, (name, bound) in questions.items():
            ratio, verdict = measured(pool, start, name, bound)
            counts[question].add(verdict, looks(ratio))
        if start >= RECORDED:
            ratio, verdict = measured(pool, start, INT8, record(pool, start))
            counts[drift].add(verdict, looks(ratio))
    return counts


def record(pool: Sequence[ProcessTimes], start: int) -> Measurement:
    """What a session recorded that ran just before: records are taken with all processes of both looks."""
    before = pool[start - RECORDED : start]
    latency = Latency(
        Job({REFERENCE: b"", INT8: b""}, (1,), 2),
        replace(PROTOCOL, processes=RECORDED, crowded=RECORDED),
        spawn=lambda job, seeds, at_once: iter([before[seed % RECORDED] for seed in seeds]),
    )
    return to_measurements(latency.samples(INT8))[LATENCY_RATIO.key]


def injected(pool: Sequence[ProcessTimes], name: str, limit: float) -> tuple[Count, Count]:
    """Judgements of a model that was made slower: by the limit, and by what was recorded before, without it."""
    by_limit, by_drift = Count(), Count()
    for start in sets(pool):
        ratio, verdict = measured(pool, start, name, Limit(LATENCY_RATIO, limit, ""))
        by_limit.add(verdict, looks(ratio))
        if start >= RECORDED:
            ratio, verdict = measured(pool, start, name, record(pool, start))
            by_drift.add(verdict, looks(ratio))
    return by_limit, by_drift


def rival_aa(pool: Sequence[ProcessTimes]) -> Count:
    """int8's mean time in each process against that in the process before."""
    return _rival(pool, INT8)


def rival_injected(pool: Sequence[ProcessTimes], name: str) -> Count:
    """The slower model's mean time in each process against int8's in the process before."""
    return _rival(pool, name)


def _rival(pool: Sequence[ProcessTimes], name: str) -> Count:
    count = Count()
    for before, now in pairwise(pool):
        then = fmean(before.pairs[INT8].variant_ms)
        count.add("fail" if fmean(now.pairs[name].variant_ms) > (1 + RIVAL) * then else "pass")
    return count
