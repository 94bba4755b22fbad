from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.judge.expected import TAKE_OUT, Expected, expect_failure
from pytest_ptq.judge.gates import SEVERITY, judge, overall
from pytest_ptq.metrics import ACCURACY_DROP, LATENCY_RATIO, Judgement, Limit, Measurement, Verdict

KNOWN = Expected("the ReLU6 kernel rounds down", "baselines/x.json:9")


def held(value: float, bound: float = 1.0) -> Judgement:
    return judge(Measurement(ACCURACY_DROP, value), Limit(ACCURACY_DROP, bound, "baselines/x.json:7"))


def test_an_expected_failure_says_why_and_what() -> None:
    found = expect_failure(held(2.0), KNOWN)
    assert found.verdict is Verdict.XFAIL
    assert "expected to fail since the ReLU6 kernel rounds down (baselines/x.json:9)" in found.reason
    assert "breaks the limit of at most 1.00 pp" in found.reason


def test_an_expected_failure_that_passes_fails_and_asks_to_take_the_mark_out() -> None:
    found = expect_failure(held(0.5), KNOWN)
    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith("expected to fail since the ReLU6 kernel rounds down, and passes: " + TAKE_OUT)
    assert "baselines/x.json:9" in found.reason


def test_drift_can_be_expected_too() -> None:
    drifted = judge(Measurement(ACCURACY_DROP, 0.9), Limit(ACCURACY_DROP, 1.0, "x"), Measurement(ACCURACY_DROP, 0.1))
    assert expect_failure(drifted, KNOWN).verdict is Verdict.XFAIL


def test_what_is_undecided_or_without_a_limit_stays() -> None:
    astride = judge(Measurement(LATENCY_RATIO, 0.5, 0.4, 0.6), Limit(LATENCY_RATIO, 0.5, "x"))
    unlimited = judge(Measurement(ACCURACY_DROP, 0.5), None)
    assert expect_failure(astride, KNOWN) is astride
    assert expect_failure(unlimited, KNOWN) is unlimited


def test_it_is_less_serious_than_what_is_open_and_more_than_a_pass() -> None:
    order = (Verdict.FAIL, Verdict.NO_BASELINE, Verdict.INCONCLUSIVE, Verdict.XFAIL, Verdict.PASS)
    assert order == SEVERITY
    assert set(SEVERITY) == set(Verdict)
    assert overall([held(0.1), expect_failure(held(2.0), KNOWN)]) is Verdict.XFAIL
    assert overall([held(2.0), expect_failure(held(2.0), KNOWN)]) is Verdict.FAIL


@given(st.sampled_from(Verdict), st.booleans(), st.text(min_size=1))
def test_a_mark_exchanges_pass_and_failure_and_touches_nothing_else(
    verdict: Verdict, marked: bool, reason: str
) -> None:
    judged = Judgement(verdict, Measurement(ACCURACY_DROP, 0.5), None, "because")
    found = expect_failure(judged, Expected(reason, "here") if marked else None)
    swapped = {Verdict.FAIL: Verdict.XFAIL, Verdict.PASS: Verdict.FAIL} if marked else {}
    assert found.verdict is swapped.get(verdict, verdict)
    assert (found.measurement, found.limit, found.recorded) == (judged.measurement, judged.limit, judged.recorded)
    assert "because" in found.reason
    assert reason in found.reason or found == judged


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.FAIL])
def test_no_mark_ever_makes_a_pass(verdict: Verdict) -> None:
    judged = Judgement(verdict, Measurement(ACCURACY_DROP, 0.5), None, "because")
    assert expect_failure(judged, KNOWN).verdict is not Verdict.PASS
