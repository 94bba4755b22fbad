"""The main job as a person starts it, in a process of its own: what it takes of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_ptq.errors import MeasurementError

ROOT = Path(__file__).resolve().parents[1]
_LAUNCHER = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], "w").write(json.dumps([seconds, peak, status]))
"""
"""A small process between this one and the command: Linux counts as a child's what its parent held at the start."""


@dataclass(frozen=True)
class Usage:
    """Of one run.

    Args:
        seconds: from start to end.
        peak_gb: largest memory of any of its processes, 10**9 bytes.
        status: what it ended with: 1 where a gate failed.
    """

    seconds: float
    peak_gb: float
    status: int


def run(cache: Path) -> Usage:
    """`pytest --ptq-suite resnet50` with that folder as pytest's cache; its record goes nowhere.

    Raises MeasurementError when it ended with neither 0 nor 1: something else went wrong.
    """
    with tempfile.TemporaryDirectory(prefix="ptq-main-") as history:
        command = [sys.executable, "-m", "pytest", "--ptq-suite", "resnet50", "-o", f"cache_dir={cache}"]
        usage = used([*command, "--ptq-history", history])
    if usage.status not in (0, 1):
        raise MeasurementError(f"the main job ended with status {usage.status}", remedy=f"Run {' '.join(command)}.")
    return usage


def used(command: Sequence[str]) -> Usage:
    """What a command takes; its standard output is not shown. Raises MeasurementError when it cannot be started."""
    with tempfile.TemporaryDirectory(prefix="ptq-usage-") as name:
        said = Path(name) / "said.json"
        environment = {**os.environ, "PYTEST_ADDOPTS": ""}
        subprocess.run([sys.executable, "-c", _LAUNCHER, str(said), *command], cwd=ROOT, check=False, env=environment)
        if not said.is_file():
            raise MeasurementError(f"{command[0]} cannot be started")
        seconds, peak_kib, status = json.loads(said.read_text(encoding="utf-8"))
    return Usage(seconds, peak_kib * 1024 / 1e9, status)
