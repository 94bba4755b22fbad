"""Run records as sessions write them, made up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pytest_ptq import metrics as m
from pytest_ptq.metrics import Judgement, Limit, Measurement, Verdict
from pytest_ptq.store.record import QConfigRecord, RunRecord

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = "avx512_vnni/onednn/2t/torch2.15"
ERROR = 0.002
"""Standard error of the log ratio, of five processes: the interval is about 0.5 % wide at either side."""


@dataclass(frozen=True)
class Made:
    """What differs from run to run."""

    day: int = 0
    ratio: float = 0.4
    drop: float = 0.2
    sqnr: float = 30.0
    machine: str = KEY
    suite: str = "net"
    qconfigs: tuple[str, ...] = ("x86",)
    error: float = ERROR
    verdict: Verdict = Verdict.PASS
    reason: str = "keeps the limit"
    more: Mapping[str, object] = field(default_factory=dict)


def run(made: Made) -> RunRecord:
    """One run; its id and its commit tell the day: `run3...`, `c3c3...`."""
    return RunRecord(
        {"key": made.machine, "cpu": "a CPU"},
        {"torch": "2.15.0", "torchvision": "0.29.2", "pytest-ptq": "0.1.0"},
        tuple(_result(made, qconfig) for qconfig in made.qconfigs),
        **{
            "commit": f"c{made.day}" * 20,
            "time": START + timedelta(days=made.day),
            "run_id": f"run{made.day}0000",
            "branch": "main",
            "commit_time": START + timedelta(days=made.day, hours=-1),
            "commit_subject": f"Work of day {made.day}",
            **made.more,
        },
    )


def _result(made: Made, qconfig: str) -> QConfigRecord:
    found = (
        latency(made.ratio, made.error),
        Measurement(m.ACCURACY_DROP, made.drop, made.drop - 0.3, made.drop + 0.3, 1000),
        Measurement(m.SQNR, made.sqnr),
        Measurement(m.SIZE_REDUCTION, 3.9),
    )
    limits = {m.LATENCY_RATIO: 0.8, m.ACCURACY_DROP: 1.0, m.SIZE_REDUCTION: 3.5}
    judged = {
        x.metric.key: Judgement(made.verdict, x, Limit(x.metric, limits[x.metric], "baselines/net.json:7"), made.reason)
        for x in found
        if x.metric in limits
    }
    return QConfigRecord(made.suite, "embedded", qconfig, False, {x.metric.key: x for x in found}, judged)


def latency(ratio: float, error: float = ERROR) -> Measurement:
    half = 2.776 * error  # Student's t of 4 degrees of freedom
    details = {m.PROCESSES: 5, m.STANDARD_ERROR: error, m.LOOKS: 1, m.NOISE_FLOOR: 1.0, m.PROBE: 90.0}
    return Measurement(m.LATENCY_RATIO, ratio, ratio * math.exp(-half), ratio * math.exp(half), 300, details)
