"""Pools of timed processes for `benchmarks.gates`: collected a slice at a time, kept as lines of JSON, resumable."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from benchmarks import gates_worker
from benchmarks.accuracy_rows import sources
from benchmarks.gates_worker import INJECT, INT8
from pytest_ptq.engine.artifact import to_bytes
from pytest_ptq.measure.pairs import Pace, ProcessTimes
from pytest_ptq.measure.processes import REFERENCE, Job, from_wire, run_processes, to_wire
from pytest_ptq.qconfig import X86
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import load_suite, packaged_suites

FOLDER = Path(".ptq/gates")
PACKAGE = Path(__file__).resolve().parent.parent / "pytest_ptq"
TIMED_BY = (PACKAGE / "engine", PACKAGE / "worker.py", PACKAGE / "measure" / "pairs.py", Path(gates_worker.__file__))
"""Sources whose change makes a process time something else."""
SUITE = "mobilenet_v2"
FALLBACK = "features.2.conv.0.0"
COMMAND = (sys.executable, "-m", "benchmarks.gates_worker")
PACE = Pace(budget_s=0.3, patience_s=3.0)
"""Shorter than a gate's, and so noisier: many copies are timed in each process."""

BURSTS = """
import time
while True:
    end = time.time() + 0.5
    while time.time() < end: pass
    time.sleep(2)
"""
NEIGHBOURS = {"idle": None, "bursts": BURSTS, "a busy core": "while True: pass"}
"""What runs beside: nothing; a program that computes for half a second and rests for two; one that never rests."""


@functools.cache
def folder() -> Path:
    """Where pools are kept that these sources and this torch have timed: others would be mixed with what is new."""
    return FOLDER / f"torch{version('torch')}-{sources(*TIMED_BY)[:12]}"


def models(inject: bool) -> dict[str, bytes]:
    """The stored models of the suite; built once, kept in the folder."""
    names = [REFERENCE, INT8, *([INJECT] if inject else [])]
    kept = folder()
    paths = {name: kept / f"{SUITE}.{name}.safetensors" for name in names}
    if not all(path.exists() for path in paths.values()):
        kept.mkdir(parents=True, exist_ok=True)
        run = SuiteRun(load_suite(SUITE, [packaged_suites()]))
        from dataclasses import replace

        fallback = replace(X86, name="fallback", fp32_layers=(FALLBACK,))
        stored = {REFERENCE: run.fused, INT8: run.quantized(X86), INJECT: run.quantized(fallback)}
        for name, model in stored.items():
            (kept / f"{SUITE}.{name}.safetensors").write_bytes(to_bytes(model))
    return {name: path.read_bytes() for name, path in paths.items()}


def pool(name: str) -> list[ProcessTimes]:
    """What has been collected under `name` so far."""
    path = folder() / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [from_wire(json.loads(line)) for line in lines]


def collect(name: str, count: int, *, neighbour: str = "idle", inject: bool = False, threads: int = 2) -> None:
    """Add processes to the pool `name` until it holds `count`."""
    there = len(pool(name))
    if there >= count:
        return
    job = Job(models(inject), (1, 3, 224, 224), threads, PACE)
    with beside(neighbour), (folder() / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        seeds: Sequence[int] = range(there, count)
        for times in tqdm(run_processes(job, seeds, at_once=2, command=COMMAND), name, len(seeds), file=sys.stderr):
            file.write(json.dumps(to_wire(times)) + "\n")
            file.flush()


@contextmanager
def beside(neighbour: str) -> Iterator[None]:
    """A program that takes time away from everything else meanwhile."""
    source = NEIGHBOURS[neighbour]
    if source is None:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", source])
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.wait()
