"""How long a history of many runs takes to open, with its index and without."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tabulate import tabulate

from pytest_ptq.metrics import LATENCY_RATIO, METRICS, Judgement, Limit, Measurement, Verdict
from pytest_ptq.store.history import open_history, read_record, write_record
from pytest_ptq.store.index import NAME
from pytest_ptq.store.record import QConfigRecord, RunRecord

START = datetime(2026, 1, 1, tzinfo=UTC)


def table(arguments: Sequence[str]) -> str:
    """One table as Markdown: seconds of each way to open the same folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks history", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="records in the folder (default: 10,000)")
    runs: int = parser.parse_args(arguments).runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_runs(folder, runs)
        size = sum(path.stat().st_size for path in folder.iterdir())
        rows = timed_rows(folder, runs)
    heading = f"{runs:,} records of 2 qconfigs with {len(METRICS)} metrics and 300 pairs each, {size / 2**20:.0f} MiB"
    return f"{heading}\n\n{tabulate(rows, headers=['what', 's'], tablefmt='github', floatfmt='.2f')}"


def write_runs(folder: Path, runs: int) -> None:
    """Records as a session writes them, in less time: without waiting for the disk."""
    chance = random.Random(0)
    for number in range(runs):
        record = made_up(chance, number)
        (folder / f"{record.time:%Y%m%dT%H%M%S.%f}Z-{record.run_id}.json").write_text(record.to_json())


def made_up(chance: random.Random, number: int) -> RunRecord:
    """A run whose values are noise: only its size is that of a real one."""
    results = tuple(_result(chance, qconfig) for qconfig in ("x86", "minmax"))
    return RunRecord(
        {"key": "avx512_vnni/onednn/2t/torch2.15", "cpu": "made up", "cores": 2},
        {"torch": "2.15.0"},
        results,
        commit=f"{number:040x}",
        time=START + timedelta(hours=number),
        run_id=f"{number:012x}",
    )


def _result(chance: random.Random, qconfig: str) -> QConfigRecord:
    measured = {key: Measurement(metric, chance.random(), 0.0, 1.0, 100) for key, metric in METRICS.items()}
    ratio = measured[LATENCY_RATIO.key]
    judged = Judgement(Verdict.PASS, ratio, Limit(LATENCY_RATIO, 1.0, "here"), "made up", ratio)
    pairs = tuple(tuple(round(chance.uniform(0.3, 0.4), 5) for _ in range(60)) for _ in range(5))
    return QConfigRecord("net", "embedded", qconfig, False, measured, {ratio.metric.key: judged}, pairs=pairs)


def timed_rows(folder: Path, runs: int) -> list[list[object]]:
    rows: list[list[object]] = [["first time, without an index", _seconds(folder)]]
    time.sleep(0.2)  # until the last file that was written counts as settled
    open_history(folder)
    rows.append(["again, with the index", _seconds(folder)])
    rows.append(["again, and all series of all metrics", _seconds(folder, series=True)])
    write_record(folder, made_up(random.Random(1), runs))
    rows.append(["after one more run", _seconds(folder)])
    (folder / NAME).write_bytes(b"damaged")
    rows.append(["with a damaged index", _seconds(folder)])
    start = time.perf_counter()
    for path in sorted(folder.glob("*.json"))[:100]:
        read_record(path)
    rows.append(["reading 100 whole records", time.perf_counter() - start])
    return rows


def _seconds(folder: Path, *, series: bool = False) -> float:
    start = time.perf_counter()
    history = open_history(folder)
    if series:
        history.series()
    return time.perf_counter() - start
