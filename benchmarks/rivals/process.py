"""Run a rival in a process of its own: one that crashes, hangs or is not installed costs its row and no more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rivals.job import error_file, logits_file
from benchmarks.rivals.rival import Rival
from pytest_ptq.errors import InstallationError, MeasurementError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "PTQ_RIVALS_PYTHON"
LIMIT_S = 3600.0
"""Seconds after which a rival is stopped."""
_PROBE = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def interpreter() -> str:
    """The Python that has the rivals' packages: the one that PTQ_RIVALS_PYTHON names, or this one."""
    return os.environ.get(VARIABLE) or sys.executable


def versions(rivals: Iterable[Rival]) -> Mapping[str, str]:
    """The version of every package that is installed there, torch's included. Raises UsageError."""
    names = sorted({"torch", *(package for rival in rivals for package in rival.packages)})
    try:
        done = subprocess.run(
            [interpreter(), "-c", _PROBE, *names], capture_output=True, text=True, check=True, env=environment()
        )
        found: Mapping[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError) as error:
        remedy = f"Let {VARIABLE} name a Python interpreter."
        raise UsageError(f"{interpreter()} cannot be run ({type(error).__name__})", remedy=remedy) from error
    return found


def run(rival: Rival, folder: Path, found: Mapping[str, str], *, limit_s: float = LIMIT_S) -> Tensor:
    """The logits (images, classes) of the job in `folder`; the engine's own output goes to `KEY.log` there.

    Args:
        found: what `versions` says.
        limit_s: seconds after which it is stopped.

    Raises:
        InstallationError: a package is missing; says how to install it.
        MeasurementError: the engine failed, crashed, ran too long or wrote no logits.
    """
    missing = [package for package in rival.packages if package not in found]
    if missing:
        raise InstallationError(
            f"{', '.join(missing)} missing in {Path(interpreter()).name}",
            place=rival.name,
            remedy=f"pip install {' '.join(missing)}",
        )
    command = [interpreter(), "-m", "benchmarks.rivals", str(folder), rival.module, rival.key]
    with (folder / f"{rival.key}.log").open("w", encoding="utf-8") as log:
        try:
            code = subprocess.run(
                command, stdout=log, stderr=log, check=False, timeout=limit_s, env=environment()
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise MeasurementError(f"stopped after {limit_s:g} s", place=rival.name) from error
    if code:
        raise MeasurementError(_why(code, error_file(folder, rival.key)), place=rival.name)
    return _read(logits_file(folder, rival.key), rival.name)


def environment() -> dict[str, str]:
    """The interpreter may be another one, where this package and the benchmarks are not installed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _why(code: int, said: Path) -> str:
    if said.is_file():
        return said.read_text(encoding="utf-8").strip() or "failed without a word"
    if code < 0:
        names = {int(s): s.name for s in signal.Signals}
        return f"crashed ({names.get(-code, f'signal {-code}')})"
    return f"ended with status {code}"


def _read(path: Path, place: str) -> Tensor:
    import numpy as np
    import torch

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MeasurementError("wrote no logits that can be read", place=place) from error
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
