"""Invented run records, to test pages: two suites, two qconfigs, two machines, and a regression in the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pytest_ptq import metrics as m
from pytest_ptq.judge.gates import judge
from pytest_ptq.metrics import LayerError, Limit, Measurement
from pytest_ptq.store.record import QConfigRecord, RunRecord

START = datetime(2026, 1, 5, tzinfo=UTC)
VNNI, AVX2 = "avx512_vnni/onednn/2t/torch2.15", "avx2/onednn/2t/torch2.15"
LIMITS = {m.ACCURACY_DROP.key: 1.0, m.SIZE_REDUCTION.key: 3.5, m.LATENCY_RATIO.key: 0.6}
SUITES = ("resnet50", "mobilenet_v2")
QCONFIGS = ("x86", "minmax")
LAYERS = 30


def wobble(*seeds: float) -> float:
    """Between -1 and 1, the same each time."""
    return math.sin(sum((index + 1.7) * 12.9898 * seed for index, seed in enumerate(seeds)) * 43.7)


def commit(run: int) -> str:
    return f"{run:02d}" + "c0ffee" * 6 + "00"


def layers(run: int, worse: bool) -> tuple[LayerError, ...]:
    fallen = (11, 12) if worse else ()
    return tuple(
        LayerError(f"layer{i}.conv", "conv2d", 40 - i / 4, 0.1, alone_db=45 - i / 9 - (15 if i in fallen else 0))
        for i in range(LAYERS)
    )


def result(
    suite: str = "resnet50",
    qconfig: str = "x86",
    run: int = 0,
    *,
    drop: float = 0.1,
    ratio: float = 0.33,
    **more: object,
) -> QConfigRecord:
    """What one suite did with one qconfig; `drop` and `ratio` decide its verdicts."""
    fp32, top1 = 19.0 if suite == SUITES[0] else 5.0, 91.0 if suite == SUITES[0] else 88.0
    found = [
        Measurement(m.TOP1_FP32, top1),
        Measurement(m.TOP1_INT8, top1 - drop),
        Measurement(m.ACCURACY_DROP, drop, drop - 0.2, drop + 0.2, 10000),
        Measurement(m.SQNR, 30 - 10 * drop + wobble(run, len(qconfig)) / 20),
        Measurement(m.SIZE_REDUCTION, 3.98),
        Measurement(m.LATENCY_FP32, fp32),
        Measurement(m.LATENCY_INT8, fp32 * ratio),
        Measurement(m.LATENCY_RATIO, ratio, ratio - 0.02, ratio + 0.02, 90),
    ]
    measured = {x.metric.key: x for x in found}
    limits = {key: Limit(measured[key].metric, bound, f"baselines/{suite}.json:12") for key, bound in LIMITS.items()}
    then = Measurement(m.ACCURACY_DROP, 0.1)
    judged = {
        key: judge(measured[key], limit, then if key == m.ACCURACY_DROP.key else None) for key, limit in limits.items()
    }
    pairs = tuple(tuple(ratio * (1 + wobble(run, p, i) / 9) for i in range(20)) for p in range(3))
    return QConfigRecord(suite, "embedded", qconfig, False, measured, judged, pairs=pairs, **more)  # type: ignore[arg-type]


def run_of(run: int, results: Sequence[QConfigRecord], machine: str = VNNI, **more: object) -> RunRecord:
    """A run record; its time and commit follow from its number."""
    return RunRecord(
        {"key": machine, "cpu": "AMD EPYC", "isa": machine.split("/")[0], "threads": 2},
        {"torch": "2.15.0", "pytest": "9.2.0"},
        tuple(results),
        time=START + timedelta(hours=8 * run),
        run_id=f"{run:012x}",
        **{"commit": commit(run), "branch": "main", "commit_subject": f"Change number {run}", **more},  # type: ignore[arg-type]
    )


def history(runs: int = 24, *, planted: int | None = 14, elsewhere: range = range(6, 10)) -> list[RunRecord]:
    """`runs` runs. resnet50[x86] loses accuracy from `planted` on; those of `elsewhere` ran on another machine."""
    found = []
    for run in range(runs):
        results = []
        for suite in SUITES:
            for qconfig in QCONFIGS:
                worse = planted is not None and run >= planted and (suite, qconfig) == ("resnet50", "x86")
                seed = wobble(run, len(suite), len(qconfig)) / 50
                ratio = (0.45 if run in elsewhere else 0.33) + seed / 5
                drop = round((1.4 if worse else 0.1) + seed, 2)
                looked = {"worst_layers": layers(run, worse)} if run % 5 == 2 or run == runs - 1 else {}
                results.append(result(suite, qconfig, run, drop=drop, ratio=ratio, **looked))
        found.append(run_of(run, results, AVX2 if run in elsewhere else VNNI))
    return found
