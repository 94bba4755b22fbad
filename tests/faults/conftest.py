from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from plugin.conftest import _heavy, project

from faults.writer import update

__all__ = ["_heavy", "project"]

ROOT = Path(__file__).resolve().parents[2]
WRITER = Path(__file__).with_name("writer.py")


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A baseline that says something about one qconfig, alone in its folder, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "net.json"
    update(file, "old")
    return file


@pytest.fixture
def writer(path):
    """Starts a process that updates `path`; `wait()` for it."""
    started = []

    def start(*arguments):
        # -P: what is beside the script is no module of the test's.
        command = [sys.executable, "-P", str(WRITER), *arguments]
        process = subprocess.Popen(
            command, cwd=path.parent, env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()
