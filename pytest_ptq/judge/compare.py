"""Two runs of the same thing, value by value: by how much it changed, and whether that is more than chance.

The question is the one that drift asks of a run and its baseline, answered by the same code, with the earlier run for
the record: `judge.gates.judge_drift`.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from pytest_ptq import metrics as m
from pytest_ptq.judge.gates import REFRESH, TOLERANCES, judge_drift, tolerance_of
from pytest_ptq.judge.intervals import BY_INTERVAL
from pytest_ptq.judge.unlike import RECORD_ANEW, RECORD_BOTH
from pytest_ptq.metrics import Judgement, Measurement, Verdict

MILLISECONDS = frozenset({m.LATENCY_EAGER.key, m.LATENCY_FP32.key, m.LATENCY_INT8.key})
"""They follow the speed of the machine, which ratios mostly cancel: told, and judged only where they have a limit."""


REMEDIES = (REFRESH, RECORD_ANEW, RECORD_BOTH)
"""Ends of reasons that are about a baseline: between two runs there is none."""


class Step(enum.Enum):
    """What became of a value."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    """It changed by no more than its tolerance."""
    OPEN = "inconclusive"
    UNJUDGED = "-"


@dataclass(frozen=True)
class Comparison:
    """One value before and after.

    Args:
        before, after: what was measured.
        step: what became of it; `reason` says why, where there is something to say.
        delta: after less before in the metric's unit, or as a share of before where `relative`.
        low, high: 95 % interval of `delta`; None for what is exact on one machine, or has no intervals.
    """

    before: Measurement
    after: Measurement
    step: Step
    reason: str
    delta: float
    relative: bool
    low: float | None = None
    high: float | None = None


def is_judged(key: str, *, limited: bool = False) -> bool:
    """Whether a difference means anything: somebody knows how much of it is nothing, or limited the metric."""
    return limited or (key in TOLERANCES and key not in MILLISECONDS)


def compare(before: Measurement, after: Measurement, *, judged: bool = True, comparisons: int = 1) -> Comparison:
    """Hold `after` against `before`, both of one metric and measured on machines of one key.

    Args:
        before: of the earlier run.
        after: of the later run.
        judged: False only tells the difference.
        comparisons: questions asked at once that can be wrong by chance.

    Raises MeasurementError for two metrics.
    """
    judgement = judge_drift(after, before, comparisons=comparisons)
    tolerance = tolerance_of(after.metric)
    relative = tolerance.relative and before.value != 0
    low, high = _interval(before, after)
    delta = after.value / before.value - 1 if relative else after.value - before.value
    step = _step(judgement) if judged else Step.UNJUDGED
    reason = "" if step in (Step.SAME, Step.UNJUDGED) else judgement.reason
    for remedy in REMEDIES:
        reason = reason.removesuffix(f": {remedy}")
    return Comparison(before, after, step, reason, delta, relative, low, high)


def _step(judgement: Judgement) -> Step:
    if judgement.verdict is Verdict.FAIL:
        return Step.WORSE
    if judgement.verdict is Verdict.INCONCLUSIVE:
        return Step.OPEN
    return Step.BETTER if REFRESH in judgement.reason else Step.SAME


def _interval(before: Measurement, after: Measurement) -> tuple[float | None, float | None]:
    """Of after / before - 1, for latencies: the limits of both are joined by square-and-add on the logarithms.

    Source: Zou and Donner, Construction of confidence limits about effect measures, Statistics in Medicine 27:1693
    (2008), with two independent estimates.
    """
    ends = (before.low, before.value, before.high, after.low, after.value, after.high)
    if after.metric.key not in BY_INTERVAL or any(end is None or end <= 0 for end in ends):
        return None, None
    low1, one, high1, low2, two, high2 = (math.log(end) for end in ends if end is not None)
    down, up = math.hypot(two - low2, high1 - one), math.hypot(high2 - two, one - low1)
    return math.expm1(two - one - down), math.expm1(two - one + up)
