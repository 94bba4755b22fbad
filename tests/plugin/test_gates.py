"""Which gate measures what: a limit on it has to find its judge."""

from __future__ import annotations

import pytest

from pytest_ptq.metrics import METRICS
from pytest_ptq.plugin.gates import ACCURACY, COVERAGE, GATES, LATENCY, SIZE, gate_of
from pytest_ptq.report import terminal


@pytest.mark.parametrize("key", METRICS)
def test_every_metric_has_a_gate_that_reports_name_alike(key: str) -> None:
    assert gate_of(key).name == terminal.gate_of(key)


@pytest.mark.parametrize(
    ("key", "gate"),
    [
        ("accuracy_drop_pp", ACCURACY),
        ("top5_drop_pp", ACCURACY),
        ("sqnr_db", ACCURACY),
        ("size_int8_bytes", SIZE),
        ("qdq_pairs_count", COVERAGE),
        ("latency_fp32_ms", LATENCY),
        ("miou_loss_pp", ACCURACY),
        ("latency_of_my_own", ACCURACY),
    ],
)
def test_limits_find_their_gate(key: str, gate: object) -> None:
    assert gate_of(key) is gate


def test_no_metric_is_accuracys_for_want_of_another_gate() -> None:
    claimed = {key for gate in GATES.values() for key in (gate.metric.key, *gate.beside)}
    assert {key for key in METRICS if key not in claimed} <= {key for key in METRICS if key.startswith("latency_")}
