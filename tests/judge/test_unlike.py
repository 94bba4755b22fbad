"""Latencies that were measured at another speed or by other kernels than what is recorded."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq import metrics as m
from pytest_ptq.judge.compare import Step, compare
from pytest_ptq.judge.gates import REFRESH, drift_verdict, judge, judge_drift
from pytest_ptq.judge.unlike import RECORD_ANEW, RECORD_BOTH
from pytest_ptq.metrics import EXCHANGE, PROBE, Limit, Measurement, Verdict
from pytest_ptq.speeds import CLOCK, CORES, distance, speed_changes, speed_text, sway

FAIL, PASS, INCONCLUSIVE = Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE
NEAR, FAR = {EXCHANGE: 4.3, PROBE: 77.0}, {EXCHANGE: 11.7, PROBE: 77.0}
"""One virtual machine, as it was found at two times."""
MOST = (11.7 / 4.3) ** 0.25


def ratio(
    value: float, error: float = 0.002, metric: m.Metric = m.LATENCY_RATIO, **details: float | str
) -> Measurement:
    half = 2.776 * error
    known = {m.PROCESSES: 5, m.STANDARD_ERROR: error, m.LOOKS: 1, m.NOISE_FLOOR: 1.0}
    return Measurement(metric, value, value * math.exp(-half), value * math.exp(half), 300, {**known, **details})


def native(**details: str) -> dict[str, str]:
    return {"int8_kernels": "native program", "fp32_kernels": "native program", **details}


@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [
        ((0.29, FAR), (0.34, FAR), FAIL),
        ((0.29, FAR), (0.34, NEAR), INCONCLUSIVE),
        ((0.34, NEAR), (0.31, FAR), PASS),
        ((0.34, NEAR), (0.29, FAR), PASS),
        ((0.34, NEAR), (0.34, FAR), PASS),
        ((0.34, NEAR), (0.34 * 1.1 * 1.02, FAR), INCONCLUSIVE),
        ((0.29, FAR), (0.29 * 1.1 * MOST * 1.02, NEAR), FAIL),
        ((0.29, FAR), (0.29 * 1.1 * MOST / 1.02, NEAR), INCONCLUSIVE),
        ((0.34, NEAR), (0.34 * 1.1 / MOST / 1.02, FAR), PASS),
        ((0.29, FAR), (0.34, {PROBE: 77.0}), FAIL),
    ],
)
def test_speeds_between_which_a_host_moves_a_machine(
    then: tuple[float, dict[str, float]], now: tuple[float, dict[str, float]], verdict: Verdict
) -> None:
    found = judge_drift(ratio(now[0], **now[1]), ratio(then[0], **then[1]))
    assert found.verdict is verdict
    if verdict is INCONCLUSIVE:
        assert "hands data from core to core in " in found.reason
        assert found.reason.endswith(f"us then, which alone may move it 1.28 times at most: {RECORD_BOTH}")


def test_a_baseline_is_refreshed_for_what_is_better_than_any_speed_makes_it() -> None:
    then = ratio(0.34, **NEAR)
    for value, refresh in ((0.28, False), (0.2, True)):
        found = judge_drift(ratio(value, **FAR), then)
        assert (found.verdict, REFRESH in found.reason) == (PASS, refresh)


def test_both_speeds_and_the_remedy_are_named() -> None:
    found = judge_drift(ratio(0.34, **NEAR), ratio(0.29, **{EXCHANGE: 11.7, PROBE: 140.0}))
    assert found.reason == (
        "int8/fp32 latency was recorded as 0.290 on such a machine and 0.340 [0.338, 0.342] leaves open whether it is "
        "worse; the machine runs plain Python in 77 us and did in 140 us then and the machine hands data from core to "
        "core in 4.3 us and did in 11.7 us then, which alone may move it 2.34 times at most: run again, or record this "
        "speed beside the other with --ptq-update-baseline new"
    )


def test_limits_are_judged_at_any_speed() -> None:
    limit = Limit(m.LATENCY_RATIO, 0.32, "net.json:3")
    assert judge(ratio(0.34, **NEAR), limit, ratio(0.29, **FAR)).verdict is FAIL
    assert judge(ratio(0.31, **NEAR), limit, ratio(0.31, **NEAR)).verdict is PASS


@given(
    st.floats(0.05, 2.0), st.floats(0.5, 2.0), st.floats(1.0, 30.0), st.floats(1.0, 30.0), st.floats(40, 200),
    st.floats(40, 200),
)  # fmt: skip
def test_another_speed_decides_nothing_that_one_speed_leaves_open(
    then: float, change: float, exchange: float, exchange_then: float, probe: float, probe_then: float
) -> None:
    """It only ever opens a question; and what lies beyond all that speed explains stays what it is."""
    now, record = ratio(then * change), ratio(then)
    plain = drift_verdict(now, record)
    swayed = ratio(then * change, **{EXCHANGE: exchange, PROBE: probe})
    was = ratio(then, **{EXCHANGE: exchange_then, PROBE: probe_then})
    found, factor = drift_verdict(swayed, was), sway(swayed, speed_changes(swayed, was))
    assert found in (plain, INCONCLUSIVE)
    if plain is FAIL and change > 1.1 * factor * 1.05:
        assert found is FAIL
    if plain is PASS and change < 1.1 / factor / 1.05:
        assert found is PASS


def test_what_a_machine_does_not_tell_is_no_other_speed() -> None:
    assert speed_changes(ratio(0.3), ratio(0.3, **NEAR)) == ()
    assert speed_changes(ratio(0.3, **{EXCHANGE: 0.0}), ratio(0.3, **NEAR)) == ()
    assert distance(ratio(0.3), ratio(0.3, **NEAR)) == 0
    (change,) = speed_changes(ratio(0.3, **FAR), ratio(0.3, **NEAR))
    assert (change.speed, change.factor) == (CORES, pytest.approx(2.72, abs=0.01))
    assert speed_changes(ratio(0.3, **{PROBE: 101.0}), ratio(0.3, **{PROBE: 80.0}))[0].speed is CLOCK
    assert speed_text(NEAR) == "plain Python 77 us, core to core 4.3 us"
    assert speed_text({}) == ""


def test_milliseconds_may_follow_all_the_way() -> None:
    def fp32(value: float, **details: float) -> Measurement:
        return ratio(value, metric=m.LATENCY_FP32, **details)

    assert judge_drift(fp32(8.0, **FAR), fp32(4.3, **NEAR)).verdict is INCONCLUSIVE
    assert judge_drift(fp32(20.0, **FAR), fp32(4.3, **NEAR)).verdict is FAIL


def test_what_does_not_vary_is_judged_as_ever() -> None:
    then = Measurement(m.SQNR, 30.0, details=NEAR)
    assert judge_drift(Measurement(m.SQNR, 28.5, details=FAR), then).verdict is FAIL
    assert judge_drift(Measurement(m.SQNR, 29.5, details=FAR), then).verdict is PASS


def test_a_compiler_that_is_gone_is_a_regression_with_its_cause() -> None:
    why = "there is no C compiler (cc, gcc or clang; CC names another)"
    lost = {
        "int8_kernels": "packed torchscript", "fp32_kernels": "float torchscript",
        "int8_not_native": why, "fp32_not_native": why,
    }  # fmt: skip
    found = judge_drift(ratio(0.5, **lost), ratio(0.29, **native()))
    assert found.verdict is FAIL
    assert found.reason == (
        "int8/fp32 latency was recorded as 0.290 on such a machine and is now 0.500 [0.497, 0.503], worse by more than "
        f"10 %; int8 ran by packed torchscript (no compiled kernels: {why}) and did by native program then; "
        f"fp32 ran by float torchscript (no compiled kernels: {why}) and did by native program then"
    )


@pytest.mark.parametrize("value", [0.15, 0.29])
def test_beside_another_fp32_nothing_is_shown_by_a_ratio_that_is_no_worse(value: float) -> None:
    found = judge_drift(ratio(value, **native(fp32_kernels="float torchscript")), ratio(0.29, **native()))
    assert found.verdict is INCONCLUSIVE
    assert found.reason.endswith(f"; fp32 ran by float torchscript and did by native program then: {RECORD_ANEW}")
    assert REFRESH not in found.reason


def test_other_int8_kernels_that_are_as_fast_pass_and_are_told() -> None:
    now, then = ratio(0.29, **native()), ratio(0.29, **native(int8_kernels="packed torchscript"))
    found = judge_drift(now, then)
    assert found.verdict is PASS
    assert "int8 ran by native program and did by packed torchscript then" in found.reason
    faster = judge_drift(ratio(0.2, **native()), then)
    assert faster.verdict is PASS
    assert faster.reason.endswith(f"and did by packed torchscript then: {REFRESH}")


def test_a_record_that_does_not_tell_its_kernels_is_compared_as_ever() -> None:
    assert judge_drift(ratio(0.29, **native()), ratio(0.29)).reason.endswith("within its tolerance")
    assert judge_drift(ratio(0.29), ratio(0.29, **native())).verdict is PASS


def test_two_runs_are_told_apart_without_a_word_on_baselines() -> None:
    at_another = compare(ratio(0.29, **FAR), ratio(0.34, **NEAR))
    assert at_another.step is Step.OPEN
    assert at_another.reason.endswith("1.28 times at most")
    by_others = compare(ratio(0.29, **native()), ratio(0.29, **native(fp32_kernels="float torchscript")))
    assert by_others.step is Step.OPEN
    assert by_others.reason.endswith("did by native program then")


def test_a_ratio_that_passes_at_another_speed_says_so() -> None:
    found = judge_drift(ratio(0.34, **FAR), ratio(0.34, **NEAR))
    assert found.verdict is PASS
    assert "from core to core in 11.7 us and did in 4.3 us then" in found.reason
    assert "--ptq-update-baseline new" in found.reason
    same = judge_drift(ratio(0.34, **FAR), ratio(0.34, **FAR))
    assert "core to core" not in same.reason
