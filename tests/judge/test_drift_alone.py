from __future__ import annotations

import pytest

from pytest_ptq.errors import MeasurementError
from pytest_ptq.judge.gates import REFRESH, judge_drift
from pytest_ptq.metrics import FLIPS, SQNR, Measurement, Verdict


@pytest.mark.parametrize(
    ("now", "tolerance", "verdict"),
    [(20.0, None, Verdict.PASS), (18.9, None, Verdict.FAIL), (18.9, 2.0, Verdict.PASS), (17.9, 2.0, Verdict.FAIL)],
)
def test_a_value_without_a_limit_is_held_against_its_record(
    now: float, tolerance: float | None, verdict: Verdict
) -> None:
    found = judge_drift(Measurement(SQNR, now), Measurement(SQNR, 20.0), tolerance)
    assert found.verdict is verdict
    assert found.limit is None
    assert found.recorded is not None
    assert ("worse by more than" in found.reason) is (verdict is Verdict.FAIL)
    assert found.reason


def test_progress_asks_for_a_refresh() -> None:
    assert judge_drift(Measurement(SQNR, 25.0), Measurement(SQNR, 20.0)).reason.endswith(REFRESH)


def test_like_is_compared_with_like() -> None:
    with pytest.raises(MeasurementError, match="held against"):
        judge_drift(Measurement(SQNR, 25.0), Measurement(FLIPS, 20.0))
