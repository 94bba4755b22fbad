import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.metrics import (
    ACCURACY_DROP,
    LATENCY_RATIO,
    METRICS,
    QDQ_PAIRS,
    SIZE_INT8,
    SIZE_REDUCTION,
    SQNR,
    TOP1_INT8,
    Measurement,
)
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.diff import changes, step

KEY = "avx2/onednn/2t/torch2.15"
EVERY = tuple(METRICS.values())


@pytest.fixture
def before(tmp_path):
    made = Baselines.empty(tmp_path / "net.json").with_limits("embedded", "x86", {SIZE_REDUCTION: 3.5})
    measured = [Measurement(ACCURACY_DROP, 0.12, -0.1, 0.34), Measurement(SIZE_REDUCTION, 3.9), Measurement(SQNR, 20.0)]
    return made.with_recorded("embedded", KEY, "x86", measured)


def diff(before, after, qconfig="x86"):
    return changes(before, after, "embedded", KEY, qconfig, EVERY)


def test_old_and_new_stand_side_by_side(before):
    measured = [
        Measurement(ACCURACY_DROP, 0.2, 0.1, 0.3), Measurement(SIZE_REDUCTION, 3.0), Measurement(SQNR, 20.0),
        Measurement(LATENCY_RATIO, 0.5, 0.4, 0.6),
    ]  # fmt: skip
    after = before.with_recorded("embedded", KEY, "x86", measured)
    assert diff(before, after.with_limits("embedded", "x86", {ACCURACY_DROP: 1.125, SIZE_REDUCTION: 9.0})) == [
        "baseline changes of net[x86] on embedded data, avx2/onednn/2t/torch2.15:",
        "  + limit accuracy_drop_pp  none                  -> 1.125 pp   to be reviewed",
        "  ~ accuracy_drop_pp        0.12 pp [-0.10, 0.34] -> 0.20 pp [0.10, 0.30]   +0.08 pp",
        "  ~ size_reduction_x        3.90 x                -> 3.00 x   -23.1 %",
        "  + latency_ratio           none                  -> 0.500 [0.400, 0.600]",
    ]


def test_nothing_is_said_where_nothing_changed(before):
    assert diff(before, before) == []
    other = before.with_recorded("embedded", KEY, "minmax", [Measurement(SQNR, 10.0)])
    assert diff(before, other) == []
    assert diff(before, other, "minmax")[1:] == ["  + sqnr_db  none -> 10.0 dB"]


def test_a_change_too_small_to_show_shows_more_digits(before):
    after = before.with_recorded("embedded", KEY, "x86", [Measurement(SIZE_REDUCTION, 3.9004)])
    assert diff(before, after)[1] == "  ~ size_reduction_x  3.90000 x -> 3.90040 x   +0.0 %"


def test_a_changed_interval_is_a_change(before):
    after = before.with_recorded("embedded", KEY, "x86", [Measurement(ACCURACY_DROP, 0.12, -0.3, 0.5)])
    assert diff(before, after)[1] == "  ~ accuracy_drop_pp  0.12 pp [-0.10, 0.34] -> 0.12 pp [-0.30, 0.50]"


@pytest.mark.parametrize(
    ("metric", "old", "new", "text"),
    [
        (TOP1_INT8, 90.0, 91.5, "+1.50 pp"),
        (ACCURACY_DROP, -0.5, 0.5, "+1.00 pp"),
        (SQNR, 20.0, 18.0, "-2.0 dB"),
        (SIZE_INT8, 1000, 1250, "+25.0 %"),
        (LATENCY_RATIO, 0.5, 0.4, "-20.0 %"),
        (QDQ_PAIRS, 0, 2, "+2"),
        (SIZE_REDUCTION, 3.0, 3.0, ""),
    ],
)
def test_each_unit_changes_in_its_own_way(metric, old, new, text):
    assert step(metric, old, new) == text


@given(st.sampled_from(EVERY), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_the_sign_tells_the_direction(metric, old, new):
    text = step(metric, old, new)
    if text:
        assert text[0] == ("+" if new > old else "-")


def test_a_speed_that_comes_and_those_that_go_are_told(before):
    def ratio(value, exchange):
        details = {"probe_us": 80.0, "exchange_us": exchange}
        return Measurement(LATENCY_RATIO, value, value - 0.1, value + 0.1, details=details)

    one = before.with_recorded("embedded", KEY, "x86", [ratio(0.3, 11.7)])
    two = one.with_recorded("embedded", KEY, "x86", [ratio(0.34, 4.3)], missing=True)
    assert diff(one, two)[1:] == [
        "  + latency_ratio  none -> 0.340 [0.240, 0.440]   plain Python 80 us, core to core 4.3 us",
    ]
    anew = two.with_recorded("embedded", KEY, "x86", [ratio(0.4, 4.4)])
    assert diff(two, anew)[1:] == [
        "  ~ latency_ratio  0.340 [0.240, 0.440] -> 0.400 [0.300, 0.500]   +17.6 %",
        "  - latency_ratio  0.300 [0.200, 0.400] -> none   plain Python 80 us, core to core 11.7 us",
    ]
