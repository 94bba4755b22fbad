"""Measurement + limit + record -> verdict. Pure: no clock, no file, no torch.

Two questions are asked. The limit holds on every machine: is the value within what somebody wrote down? Drift holds
on machines of one key: is it worse than what was recorded there? A latency answers with its whole 95 % interval,
everything else with its value, because everything else is deterministic on one machine. Nothing fails open: what is
NaN, missing or undecidable never passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_ptq import metrics as m
from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.judge.intervals import BY_INTERVAL, confidence, ends, lacks_interval, moved, unfit
from pytest_ptq.judge.unlike import unlike
from pytest_ptq.metrics import NOISE_FLOOR, Direction, Judgement, Limit, Measurement, Metric, Verdict

REFRESH = "refresh the baseline with --ptq-update-baseline all"
"""Ends the reason of a value that became better than its record by more than the tolerance."""


@dataclass(frozen=True)
class Tolerance:
    """How much worse than recorded is not yet a regression: in the metric's unit, or as a share of the record."""

    amount: float
    relative: bool = False


TOLERANCES: Mapping[str, Tolerance] = {
    # Fixed weights and images give the same answers on one kind of CPU; this is room for rounding on another of them.
    m.TOP1_FP32.key: Tolerance(0.25),
    m.TOP1_INT8.key: Tolerance(0.25),
    m.ACCURACY_DROP.key: Tolerance(0.25),
    m.TOP5_FP32.key: Tolerance(0.25),
    m.TOP5_INT8.key: Tolerance(0.25),
    m.TOP5_DROP.key: Tolerance(0.25),
    m.CALIBRATION_CLASSES.key: Tolerance(1.0),
    m.FLIPS.key: Tolerance(0.5),
    m.SQNR.key: Tolerance(1.0),
    # Exact, but for metadata such as version strings inside the file.
    m.SIZE_FP32.key: Tolerance(1e-3, relative=True),
    m.SIZE_INT8.key: Tolerance(1e-3, relative=True),
    m.SIZE_REDUCTION.key: Tolerance(1e-3, relative=True),
    # Milliseconds follow the machine's speed, which ratios mostly cancel. For ratios: docs/gates.md.
    m.LATENCY_EAGER.key: Tolerance(0.25, relative=True),
    m.LATENCY_FP32.key: Tolerance(0.25, relative=True),
    m.LATENCY_INT8.key: Tolerance(0.25, relative=True),
    m.LATENCY_RATIO.key: Tolerance(0.10, relative=True),
    m.INT8_MACS.key: Tolerance(0.01),
    m.INT8_SHARE.key: Tolerance(0.01),
    m.QDQ_PAIRS.key: Tolerance(0.0),
    m.INT8_KERNELS.key: Tolerance(0.0),
    # Two runtimes on the same CPU give the same answers each time; room for what lies half-way on another one.
    m.AGREEMENT_FLIPS.key: Tolerance(0.1),
    m.AGREEMENT_STEPS.key: Tolerance(1.0),
}

EXACT = Tolerance(0.0)
"""For a metric that stands in no table."""

SEVERITY = (Verdict.FAIL, Verdict.NO_BASELINE, Verdict.INCONCLUSIVE, Verdict.XFAIL, Verdict.PASS)
"""Verdicts, the most serious first."""


def judge(
    measurement: Measurement,
    limit: Limit | None,
    recorded: Measurement | None = None,
    tolerance: float | None = None,
    comparisons: int = 1,
) -> Judgement:
    """Hold `measurement` against its limit and its record.

    Args:
        measurement: what was measured.
        limit: None gives NO_BASELINE: a gate without a limit is an error, not a pass.
        recorded: what a machine of the same key recorded; None does not judge drift.
        tolerance: replaces the metric's own in TOLERANCES, in the same sense (relative for sizes and latencies).
        comparisons: questions of the session that can be wrong by chance and are still open; see `confidence`.

    Raises:
        MeasurementError: limit or record belong to another metric.
        UsageError: a tolerance that is negative or not finite.
    """
    _check_metric(measurement.metric, limit, recorded)
    allowed = tolerance_of(measurement.metric, tolerance)
    if limit is None:
        reason = f"no limit is set for {measurement.metric.title} ({measurement.metric.key})"
        return Judgement(Verdict.NO_BASELINE, measurement, None, reason, recorded)
    held = limit_verdict(measurement, limit, comparisons)
    findings = [(held, _limit_reason(measurement, limit, held))]
    if recorded is not None:
        findings.append(_drift(measurement, recorded, allowed, comparisons))
    verdict = min((v for v, _ in findings), key=SEVERITY.index)
    reasons = [reason for v, reason in findings if reason and (v is verdict or v is not Verdict.PASS)]
    return Judgement(verdict, measurement, limit, "; ".join(reasons), recorded)


def judge_drift(
    measurement: Measurement, recorded: Measurement, tolerance: float | None = None, comparisons: int = 1
) -> Judgement:
    """Hold a measurement that nobody limits against its record alone. Raises what `judge` does."""
    _check_metric(measurement.metric, None, recorded)
    verdict, reason = _drift(measurement, recorded, tolerance_of(measurement.metric, tolerance), comparisons)
    same = f"{measurement.metric.title} of {describe(measurement)} is what was recorded, within its tolerance"
    return Judgement(verdict, measurement, None, reason or same, recorded)


def overall(judgements: Iterable[Judgement]) -> Verdict | None:
    """The most serious verdict, or None when nothing was judged."""
    return min((j.verdict for j in judgements), key=SEVERITY.index, default=None)


def limit_verdict(measurement: Measurement, limit: Limit, comparisons: int = 1) -> Verdict:
    """The answer to the first question alone."""
    return _side(measurement, limit.bound, comparisons)


def drift_verdict(measurement: Measurement, recorded: Measurement, tolerance: float | None = None) -> Verdict:
    """The answer to the second question alone."""
    return _drift(measurement, recorded, tolerance_of(measurement.metric, tolerance))[0]


def tolerance_of(metric: Metric, override: float | None = None) -> Tolerance:
    """The metric's tolerance, with its amount replaced by `override` when given."""
    usual = TOLERANCES.get(metric.key, EXACT)
    if override is None:
        return usual
    if not math.isfinite(override) or override < 0:
        raise UsageError(f"tolerance {override} of {metric.key} cannot be", remedy="Give a number of 0 or more.")
    return Tolerance(override, usual.relative)


def _side(measurement: Measurement, bound: float, comparisons: int = 1) -> Verdict:
    """FAIL beyond the bound, PASS within, INCONCLUSIVE astride. The bound itself is within; NaN is always beyond."""
    if unfit(measurement):
        return Verdict.INCONCLUSIVE
    metric = measurement.metric
    best, _ = ends(measurement, confidence(comparisons))
    if metric.worse(best, bound) and not lacks_interval(measurement):
        return Verdict.FAIL
    _, worst = ends(measurement, confidence())
    if metric.worse(worst, bound) or lacks_interval(measurement):
        return Verdict.INCONCLUSIVE
    return Verdict.PASS


def _drift(
    measurement: Measurement, recorded: Measurement, tolerance: Tolerance, comparisons: int = 1
) -> tuple[Verdict, str]:
    """Verdict on drift and what to say of it; nothing to say when the value stayed where it was.

    The record's own uncertainty counts for the measurement: its worst end, worsened by the tolerance, is the bound.
    What another speed of the machine may have made of the value is no regression; a value that passes says so.
    """
    metric = measurement.metric
    was = f"{metric.title} was recorded as {metric.format(recorded.value)}"
    if why := _incomparable(measurement, tolerance):
        return Verdict.INCONCLUSIVE, f"{was}, which {describe(measurement)} cannot be compared with: {why}"
    other = unlike(measurement, recorded)
    best_then, worst_then = ends(recorded)
    verdict = _beside(measurement, _shift(metric, worst_then, tolerance, worse=True), other.factor, comparisons)
    allowed = f"{100 * tolerance.amount:g} %" if tolerance.relative else metric.format(tolerance.amount)
    now = f"is now {describe(measurement)}"
    if verdict is Verdict.FAIL:
        return verdict, f"{was} on such a machine and {now}, worse by more than {allowed}{other}"
    if verdict is Verdict.INCONCLUSIVE or other.fp32:
        left = f"{was} on such a machine and {describe(measurement)} leaves open whether it is worse"
        return Verdict.INCONCLUSIVE, f"{left}{other}{other.remedy}"
    _, worst_now = ends(measurement)
    if metric.worse(_shift(metric, best_then, tolerance, worse=False), worst_now * other.factor):
        return verdict, f"{was} and {now}, better by more than {allowed}{other}: {REFRESH}"
    return verdict, f"{was} and {now}{other}{other.remedy}" if other.int8 or other.speeds else ""


def _beside(measurement: Measurement, bound: float, factor: float, comparisons: int) -> Verdict:
    """`_side` of a value that speed alone may have made worse by `factor`: what that explains is no regression shown.

    What lies within the bound as it is passes: speed may as well have hidden something, of which nothing is known.
    """
    if _side(measurement, bound * factor, comparisons) is Verdict.FAIL:
        return Verdict.FAIL
    within = _side(measurement, bound, comparisons) is Verdict.PASS
    return Verdict.PASS if within else Verdict.INCONCLUSIVE


def _incomparable(measurement: Measurement, tolerance: Tolerance) -> str:
    """Why a latency says nothing of drift, though its key is the same; empty for all else."""
    if measurement.metric.key not in BY_INTERVAL or (why := unfit(measurement)):
        return why if measurement.metric.key in BY_INTERVAL else ""
    floor = measurement.details.get(NOISE_FLOOR)
    if isinstance(floor, float) and tolerance.relative and 100 * tolerance.amount < floor:
        return f"a tolerance of {100 * tolerance.amount:g} % is below the noise floor of {floor:.1f} %"
    return ""


def _shift(metric: Metric, value: float, tolerance: Tolerance, *, worse: bool) -> float:
    """`value` moved by the tolerance in the worse or the better direction."""
    step = abs(value) * tolerance.amount if tolerance.relative else tolerance.amount
    upwards = (metric.direction is Direction.LOWER_IS_BETTER) is worse
    # What is read as equal is equal: a step of 0.1 from 0.2 is not to fail by the last bit of a float.
    slack = 1e-9 * max(1.0, abs(value))
    return value + step + slack if upwards else value - step - slack


def _limit_reason(measurement: Measurement, limit: Limit, verdict: Verdict) -> str:
    held = "at most" if measurement.metric.direction is Direction.LOWER_IS_BETTER else "at least"
    relation = {
        Verdict.PASS: "keeps",
        Verdict.FAIL: "breaks",
        Verdict.INCONCLUSIVE: "leaves open whether it keeps",
    }[verdict]
    bound = f"the limit of {held} {measurement.metric.format(limit.bound)} ({limit.source})"
    why = f": {unfit(measurement)}" if unfit(measurement) else ""
    if verdict is Verdict.INCONCLUSIVE and (went := moved(measurement)):
        why += f"; it moved by {100 * math.expm1(went):+.0f} % while it was measured"
    return f"{measurement.metric.title} of {describe(measurement)} {relation} {bound}{why}"


def describe(measurement: Measurement) -> str:
    """The value with its unit, and its interval where it has one: `0.331 [0.322, 0.340]`."""
    text = measurement.metric.format(measurement.value)
    if measurement.low is None or measurement.high is None:
        return text
    digits = measurement.metric.digits
    return f"{text} [{measurement.low:.{digits}f}, {measurement.high:.{digits}f}]"


def _check_metric(metric: Metric, limit: Limit | None, recorded: Measurement | None) -> None:
    others = (limit.metric if limit else metric, recorded.metric if recorded else metric)
    for other in others:
        if other.key != metric.key:
            raise MeasurementError(f"{metric.key} is held against {other.key}", remedy="Compare like with like.")
