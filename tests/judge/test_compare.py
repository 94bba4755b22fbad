"""What became of a value from one run to another."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq import metrics as m
from pytest_ptq.errors import MeasurementError
from pytest_ptq.judge.compare import Step, compare, is_judged
from pytest_ptq.metrics import Measurement


def latency(ratio, error=0.002, **more):
    half = 2.776 * error
    details = {m.PROCESSES: 5, m.STANDARD_ERROR: error, m.LOOKS: 1, m.NOISE_FLOOR: 1.0, m.PROBE: 90.0, **more}
    return Measurement(m.LATENCY_RATIO, ratio, ratio * math.exp(-half), ratio * math.exp(half), 300, details)


def drop(value):
    return Measurement(m.ACCURACY_DROP, value, value - 1, value + 1)


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        (latency(0.4), latency(0.5), Step.WORSE),
        (latency(0.5), latency(0.4), Step.BETTER),
        (latency(0.4), latency(0.41), Step.SAME),
        (latency(0.4), latency(0.46, error=0.05), Step.OPEN),
        (latency(0.4), Measurement(m.LATENCY_RATIO, 0.5), Step.OPEN),
        (latency(0.4), latency(0.5, **{m.PROBE: 180.0}), Step.OPEN),
        (drop(0.2), drop(0.6), Step.WORSE),
        (drop(0.6), drop(0.2), Step.BETTER),
        (drop(0.2), drop(0.4), Step.SAME),
        (Measurement(m.SIZE_REDUCTION, 3.9), Measurement(m.SIZE_REDUCTION, 3.8), Step.WORSE),
        (Measurement(m.SQNR, 30.0), Measurement(m.SQNR, 32.0), Step.BETTER),
        (Measurement(m.QDQ_PAIRS, 0.0), Measurement(m.QDQ_PAIRS, 1.0), Step.WORSE),
    ],
)
def test_steps(before, after, step):
    found = compare(before, after)
    assert found.step is step
    assert bool(found.reason) == (step is not Step.SAME)
    assert "refresh" not in found.reason


def test_what_is_not_judged_is_told_all_the_same():
    found = compare(latency(0.4), latency(0.5), judged=False)
    assert (found.step, found.reason) == (Step.UNJUDGED, "")
    assert found.delta == pytest.approx(0.25)


def test_more_questions_need_more_certainty():
    before, after = latency(0.4), latency(0.464, error=0.008)
    assert compare(before, after).step is Step.WORSE
    assert compare(before, after, comparisons=200).step is Step.OPEN


def test_a_difference_is_a_share_or_in_the_unit():
    share, points = compare(latency(0.4), latency(0.5)), compare(drop(0.2), drop(0.6))
    assert (share.relative, share.delta) == (True, pytest.approx(0.25))
    assert (points.relative, points.delta) == (False, pytest.approx(0.4))
    assert (points.low, points.high) == (None, None), "exact on one machine: the images are the same"


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0.0001, 0.1), st.floats(0.0001, 0.1))
def test_the_interval_of_a_share(before, after, one, two):
    found = compare(latency(before, one), latency(after, two))
    assert found.low <= found.delta <= found.high
    # Of symmetric intervals of logarithms, square-and-add is the interval of a difference of normal values.
    half = 2.776 * math.hypot(one, two)
    assert math.log1p(found.high) == pytest.approx(math.log(after / before) + half)
    assert math.log1p(found.low) == pytest.approx(math.log(after / before) - half)


def test_a_share_of_nothing_is_told_in_the_unit():
    found = compare(Measurement(m.SIZE_INT8, 0.0), Measurement(m.SIZE_INT8, 5.0))
    assert (found.relative, found.delta) == (False, 5.0)


def test_two_metrics_are_never_compared():
    with pytest.raises(MeasurementError, match="held against"):
        compare(latency(0.4), drop(0.5))


def test_milliseconds_are_judged_only_where_they_are_limited():
    assert not is_judged(m.LATENCY_INT8.key)
    assert is_judged(m.LATENCY_INT8.key, limited=True)
    assert is_judged(m.SQNR.key)
    assert not is_judged("somebody's own")
