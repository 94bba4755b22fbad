"""Looks, questions and noise: what a latency has to show before a verdict falls."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.judge.gates import REFRESH, judge, limit_verdict
from pytest_ptq.judge.intervals import confidence, ends
from pytest_ptq.metrics import ACCURACY_DROP, LATENCY_RATIO, Limit, Measurement, Verdict
from pytest_ptq.student import t_quantile

FAIL, PASS, INCONCLUSIVE = Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE


def ratio(value, error=0.01, processes=5, **details):
    half = t_quantile(0.975, processes - 1) * error
    low, high = value * math.exp(-half), value * math.exp(half)
    found = {"processes": processes, "log_standard_error": error, "looks": 1, **details}
    return Measurement(LATENCY_RATIO, value, low, high, samples=100, details=found)


def limit(bound):
    return Limit(LATENCY_RATIO, bound, "baselines/x.json:7")


def test_the_chance_of_error_is_shared_by_looks_and_questions():
    assert confidence() == pytest.approx(0.975)
    assert confidence(4) == pytest.approx(1 - 0.05 / 8)


def test_a_failure_needs_more_than_the_interval_that_is_shown():
    shown = ratio(1.0)
    bound = shown.low * 0.999
    assert shown.low > bound
    assert limit_verdict(shown, limit(bound)) is INCONCLUSIVE
    best, _ = ends(shown, confidence())
    assert limit_verdict(shown, limit(best * 0.999)) is FAIL
    assert limit_verdict(shown, limit(best * 0.999), comparisons=6) is INCONCLUSIVE
    best, _ = ends(shown, confidence(6))
    assert limit_verdict(shown, limit(best * 0.999), comparisons=6) is FAIL


def test_a_pass_does_not_get_harder_with_more_questions():
    shown = ratio(0.5)
    _, worst = ends(shown, confidence())
    assert limit_verdict(shown, limit(worst * 1.001), comparisons=50) is PASS
    assert limit_verdict(shown, limit(worst * 0.999), comparisons=50) is INCONCLUSIVE


@given(st.floats(0.1, 2), st.floats(0.001, 0.3), st.integers(2, 20), st.floats(0.1, 2), st.integers(1, 40))
def test_more_questions_never_turn_another_verdict_into_a_failure(value, error, processes, bound, more):
    alone = limit_verdict(ratio(value, error, processes), limit(bound))
    among = limit_verdict(ratio(value, error, processes), limit(bound), comparisons=more)
    assert among is alone or (alone is FAIL and among is INCONCLUSIVE)


@given(st.floats(0.1, 2), st.floats(0.001, 0.3), st.integers(2, 20), st.floats(0.1, 2))
def test_no_value_both_fails_and_passes(value, error, processes, bound):
    verdict = limit_verdict(ratio(value, error, processes), limit(bound))
    if verdict is FAIL:
        assert value > bound
    if verdict is PASS:
        assert value <= bound


@pytest.mark.parametrize("value", [0.1, 10.0])
def test_unfit_samples_decide_nothing_and_say_why(value):
    found = judge(ratio(value, unfit="other programs used 60 % of the CPUs"), limit(1.0), ratio(0.1))
    assert found.verdict is INCONCLUSIVE
    assert "leaves open whether it keeps" in found.reason
    assert found.reason.count("other programs used 60 % of the CPUs") == 2


def test_a_tolerance_below_the_noise_floor_is_refused_with_its_number():
    found = judge(ratio(0.5, noise_floor_percent=7.25), limit(1.0), ratio(0.3), tolerance=0.05)
    assert found.verdict is INCONCLUSIVE
    assert "a tolerance of 5 % is below the noise floor of 7.2 %" in found.reason
    assert judge(ratio(0.5, noise_floor_percent=4.9), limit(1.0), ratio(0.3), tolerance=0.05).verdict is FAIL


@pytest.mark.parametrize(("now", "verdict"), [(80.0, FAIL), (99.0, FAIL), (101.0, INCONCLUSIVE), (60.0, INCONCLUSIVE)])
def test_drift_is_left_open_when_the_machine_runs_at_another_speed(now, verdict):
    found = judge(ratio(0.38, probe_us=now), limit(1.0), ratio(0.3, probe_us=80.0), tolerance=0.1)
    assert found.verdict is verdict
    assert ("runs plain Python" in found.reason) is (verdict is INCONCLUSIVE)
    assert limit_verdict(ratio(0.38, probe_us=now), limit(1.0)) is PASS, "limits hold at any speed"


@pytest.mark.parametrize("now", [80.0, 99.0, 101.0, 60.0])
def test_no_speed_excuses_what_it_cannot_explain(now):
    found = judge(ratio(0.5, probe_us=now), limit(1.0), ratio(0.3, probe_us=80.0), tolerance=0.1)
    assert found.verdict is FAIL


def test_a_record_without_a_probe_is_still_compared():
    assert judge(ratio(0.5, probe_us=80.0), limit(1.0), ratio(0.3), tolerance=0.1).verdict is FAIL


def test_a_ratio_that_moved_lies_anywhere_between():
    still, moving = ratio(1.0), ratio(1.0, moved_log=-0.2)
    assert ends(moving, 0.9) == pytest.approx(
        (ends(still, 0.9)[0] * math.exp(-0.1), ends(still, 0.9)[1] * math.exp(0.1))
    )
    assert limit_verdict(still, limit(0.95)) is FAIL
    found = judge(moving, limit(0.95))
    assert found.verdict is INCONCLUSIVE
    assert found.reason.endswith("; it moved by -18 % while it was measured")
    assert limit_verdict(moving, limit(0.8)) is FAIL, "however it moved, it is beyond"


def test_one_process_decides_nothing():
    alone = Measurement(LATENCY_RATIO, 0.1, details={"processes": 1})
    assert limit_verdict(alone, limit(1.0)) is INCONCLUSIVE
    assert limit_verdict(Measurement(LATENCY_RATIO, 9.0, details={"processes": 1}), limit(1.0)) is INCONCLUSIVE


def test_an_improvement_beyond_the_tolerance_asks_for_a_refresh():
    found = judge(ratio(0.3), limit(1.0), ratio(0.5), tolerance=0.1)
    assert found.verdict is PASS
    assert found.reason.endswith(REFRESH)


def test_what_is_exact_is_not_touched_by_looks_or_questions():
    drop = Measurement(ACCURACY_DROP, 1.001, 0.5, 1.5)
    assert limit_verdict(drop, Limit(ACCURACY_DROP, 1.0, "x"), comparisons=50) is FAIL
