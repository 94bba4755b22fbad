import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.judge.gates import (
    EXACT,
    REFRESH,
    SEVERITY,
    TOLERANCES,
    describe,
    drift_verdict,
    judge,
    limit_verdict,
    overall,
    tolerance_of,
)
from pytest_ptq.metrics import (
    ACCURACY_DROP,
    LATENCY_RATIO,
    METRICS,
    QDQ_PAIRS,
    SIZE_REDUCTION,
    SQNR,
    Direction,
    Limit,
    Measurement,
    Metric,
    Verdict,
)

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
finite = st.floats(-1e6, 1e6)


def drop(value, low=None, high=None):
    return Measurement(ACCURACY_DROP, value, low, high, samples=1000)


def ratio(low, value, high):
    return Measurement(LATENCY_RATIO, value, low, high, samples=100)


def limit(metric, bound):
    return Limit(metric, bound, "baselines/x.json:7")


@pytest.mark.parametrize(
    ("metric", "value", "bound", "verdict"),
    [
        (ACCURACY_DROP, 0.9, 1.0, PASS),
        (ACCURACY_DROP, 1.0, 1.0, PASS),
        (ACCURACY_DROP, 1.01, 1.0, FAIL),
        (ACCURACY_DROP, -3.0, 1.0, PASS),
        (SIZE_REDUCTION, 3.6, 3.5, PASS),
        (SIZE_REDUCTION, 3.4, 3.5, FAIL),
        (QDQ_PAIRS, 0, 0, PASS),
        (QDQ_PAIRS, 1, 0, FAIL),
    ],
)
def test_a_value_is_held_against_its_limit(metric, value, bound, verdict):
    found = judge(Measurement(metric, value), limit(metric, bound))
    assert found.verdict is verdict
    assert "baselines/x.json:7" in found.reason


def test_a_wide_interval_does_not_excuse_a_deterministic_value():
    assert judge(drop(1.2, 0.1, 2.3), limit(ACCURACY_DROP, 1.0)).verdict is FAIL
    assert judge(drop(0.8, -0.5, 2.1), limit(ACCURACY_DROP, 1.0)).verdict is PASS


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.4, 0.5, 0.6), PASS), ((0.5, 0.55, 0.61), INCONCLUSIVE), ((0.59, 0.65, 0.7), INCONCLUSIVE),
     ((0.61, 0.65, 0.7), FAIL)],
)  # fmt: skip
def test_latency_is_judged_by_its_whole_interval(interval, verdict):
    assert judge(ratio(*interval), limit(LATENCY_RATIO, 0.6)).verdict is verdict


def test_latency_without_an_interval_neither_passes_nor_fails():
    bare = Measurement(LATENCY_RATIO, 0.3)
    assert judge(bare, limit(LATENCY_RATIO, 0.6)).verdict is INCONCLUSIVE
    assert judge(replace(bare, value=0.7), limit(LATENCY_RATIO, 0.6)).verdict is INCONCLUSIVE


def test_no_limit_is_no_pass():
    found = judge(drop(0.0), None, drop(0.0))
    assert found.verdict is Verdict.NO_BASELINE
    assert "accuracy_drop_pp" in found.reason


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_nan_never_passes(metric):
    sound = Measurement(metric, 1.0, 1.0, 1.0)
    assert judge(sound, limit(metric, math.nan)).verdict is FAIL
    broken = replace(sound, low=math.nan, high=math.nan)
    if metric is LATENCY_RATIO:
        assert judge(broken, limit(metric, 1.0)).verdict is FAIL
        assert judge(sound, limit(metric, 1.0), broken).verdict is FAIL
    object.__setattr__(broken, "value", math.nan)
    assert judge(broken, limit(metric, 1.0)).verdict is FAIL
    assert judge(sound, limit(metric, 1.0), broken).verdict is FAIL


@pytest.mark.parametrize(
    ("value", "recorded", "verdict", "refresh"),
    [(0.30, 0.10, PASS, False), (0.35, 0.10, PASS, False), (0.36, 0.10, FAIL, False), (-0.2, 0.1, PASS, True)],
)
def test_drift_beyond_the_tolerance_fails_and_progress_asks_for_a_refresh(value, recorded, verdict, refresh):
    found = judge(drop(value), limit(ACCURACY_DROP, 1.0), drop(recorded))
    assert found.verdict is verdict
    assert (REFRESH in found.reason) is refresh
    assert found.recorded is not None


def test_drift_in_the_other_direction():
    db = [Measurement(SQNR, x) for x in (20.0, 22.0)]
    bound = limit(SQNR, 10.0)
    assert judge(db[0], bound, db[1]).verdict is FAIL
    better = judge(db[1], bound, db[0])
    assert better.verdict is PASS
    assert better.reason.endswith(REFRESH)


@pytest.mark.parametrize(
    ("now", "verdict", "refresh"),
    [
        ((0.30, 0.31, 0.32), PASS, False),
        ((0.33, 0.34, 0.35), PASS, False),
        ((0.34, 0.36, 0.38), INCONCLUSIVE, False),
        ((0.36, 0.37, 0.38), FAIL, False),
        ((0.20, 0.21, 0.22), PASS, True),
    ],
)
def test_latency_drift_separates_both_intervals_by_a_tenth(now, verdict, refresh):
    found = judge(ratio(*now), limit(LATENCY_RATIO, 0.6), ratio(0.30, 0.31, 0.32))  # 0.32 * 1.1 = 0.352
    assert found.verdict is verdict
    assert (REFRESH in found.reason) is refresh


def test_a_tolerance_can_be_replaced_and_stays_relative():
    then, now = ratio(0.30, 0.31, 0.32), ratio(0.36, 0.37, 0.38)
    assert judge(now, limit(LATENCY_RATIO, 0.6), then, 0.1).verdict is FAIL
    assert judge(now, limit(LATENCY_RATIO, 0.6), then, 0.2).verdict is PASS
    assert tolerance_of(LATENCY_RATIO, 0.1).relative
    assert drift_verdict(now, then, 0.1) is FAIL
    assert limit_verdict(now, limit(LATENCY_RATIO, 0.6)) is PASS


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_an_impossible_tolerance_is_refused(tolerance):
    with pytest.raises(UsageError, match="cannot be"):
        judge(drop(0.1), limit(ACCURACY_DROP, 1.0), drop(0.1), tolerance)


def test_both_failures_are_told():
    found = judge(drop(2.0), limit(ACCURACY_DROP, 1.0), drop(0.1))
    assert "breaks the limit of at most 1.00 pp" in found.reason
    assert "was recorded as 0.10 pp" in found.reason


def test_a_failure_by_drift_does_not_hide_behind_a_kept_limit():
    found = judge(drop(0.9), limit(ACCURACY_DROP, 1.0), drop(0.1))
    assert found.verdict is FAIL
    assert found.reason.startswith("accuracy drop was recorded as 0.10 pp")


def test_an_unknown_metric_drifts_exactly():
    mine = Metric("miou_percent", "mIoU", "%", Direction.HIGHER_IS_BETTER)
    assert tolerance_of(mine) == EXACT
    assert judge(Measurement(mine, 70.0), limit(mine, 60), Measurement(mine, 70.0)).verdict is PASS
    assert judge(Measurement(mine, 69.99), limit(mine, 60), Measurement(mine, 70.0)).verdict is FAIL


def test_like_is_compared_with_like():
    with pytest.raises(MeasurementError, match="accuracy_drop_pp is held against logit"):
        judge(drop(0.1), Limit(replace(SQNR, key="logit"), 1.0, "x"))
    with pytest.raises(MeasurementError, match="held against"):
        judge(drop(0.1), limit(ACCURACY_DROP, 1.0), Measurement(SQNR, 1.0))


def test_every_metric_has_a_tolerance():
    assert set(TOLERANCES) == set(METRICS)


@given(st.sampled_from(list(METRICS.values())), finite, finite, finite)
def test_worse_values_never_get_a_better_verdict(metric, a, b, bound):
    better, worse = (b, a) if metric.worse(a, b) else (a, b)
    verdicts = [judge(Measurement(metric, v, v, v), limit(metric, bound)).verdict for v in (better, worse)]
    assert SEVERITY.index(verdicts[1]) <= SEVERITY.index(verdicts[0])


@given(st.sampled_from(list(METRICS.values())), finite)
def test_what_was_recorded_does_not_drift_from_itself(metric, value):
    same = Measurement(metric, value, value, value)
    assert drift_verdict(same, same) is PASS


def test_the_most_serious_verdict_counts():
    made = [judge(drop(v), limit(ACCURACY_DROP, 1.0)) for v in (0.1, 2.0)]
    unlimited = judge(drop(0.1), None)
    assert overall(made) is FAIL
    assert overall([made[0], unlimited]) is Verdict.NO_BASELINE
    assert overall([]) is None


def test_values_are_described_with_their_interval():
    assert describe(ratio(0.3221, 0.331, 0.34)) == "0.331 [0.322, 0.340]"
    assert describe(drop(0.5)) == "0.50 pp"
