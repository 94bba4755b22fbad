"""A project with a few runs, and a short way to ask for something there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.made import Made, run
from pytest_ptq.cli import main
from pytest_ptq.store.history import write_record


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def say(*args: str) -> Said:
        capsys.readouterr()
        status = main(args)
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return Said(status, told.out, told.err)

    return say


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with runs of six days in `.ptq/history`; the newest two are slower."""
    for day in range(6):
        slower = 0.1 if day > 3 else 0.0
        write_record(tmp_path / ".ptq" / "history", run(Made(day=day, ratio=0.4 + slower + 0.001 * day)))
    monkeypatch.chdir(tmp_path)
    return tmp_path
