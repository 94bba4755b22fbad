"""The main job as a person starts it, in a process of its own: what it takes of time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pytest_ptq.errors import MeasurementError

ROOT = Path(__file__).resolve().parents[1]


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


def run(cache: Path, *more: str) -> Usage:
    """`pytest --ptq-suite resnet50` with that folder as pytest's cache; its record goes nowhere.

    Raises MeasurementError when it ended with neither 0 nor 1: something else went wrong.
    """
    with tempfile.TemporaryDirectory(prefix="ptq-main-") as history, tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "pytest", "--ptq-suite", "resnet50", "-o", f"cache_dir={cache}"]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--ptq-history", history, *more], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT
        )
        # Not wait(): this tells what the process and those that it waited for have used.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise MeasurementError(f"the main job ended with {process.returncode} ({' '.join(last)})")
    return Usage(seconds, usage.ru_maxrss * 1024 / 1e9, process.returncode)
