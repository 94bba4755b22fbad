"""The made-up team's repository: its files, its commits and its runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from benchmarks.demonstration_story import Commit, State
from pytest_ptq.errors import MeasurementError

SUITE = "garments"
START = datetime(2026, 2, 2, 9, 30, tzinfo=timezone(timedelta(hours=1)))
STEP = timedelta(hours=26, minutes=7)
"""From one commit to the next."""
TEAM = {"NAME": "Model team", "EMAIL": "models@garments.example"}

INI = f"[pytest]\naddopts = --ptq-suite {SUITE} --deselect suites/{SUITE}.py::test_latency[kiosk]\n"
SELDOM = "# Latency is timed on every commit whose number can be divided by {}: elsewhere --ptq-latency=off.\n"
README = "# Garments\n\nTells garments apart, in the app and in kiosks of shops.\n"
SUITE_FILE = '''"""MobileNetV2 in the app and in kiosks, each quantized in its own way."""

from pytest_ptq import FashionMNIST, QConfig, Suite, TorchvisionModel, Variant

suite = Suite(
    name="{name}",
    description="tells garments apart",
    variants={{
        "embedded": Variant(
            model=TorchvisionModel("mobilenet_v2", classes=10, weights="embedded:mobilenet_v2_fashion_mnist"),
            data=FashionMNIST(calibration={calibration}, evaluation=2000, batch_size={batch_size}),
        ),
    }},
    qconfigs=(
        {qconfigs}
    ),
)
'''


class Team:
    """A repository with a suite and its baseline, and the history of its runs beside it.

    Args:
        folder: holds `repository` and `history`; both are made where they are missing.
    """

    def __init__(self, folder: Path) -> None:
        self.repository, self.history = folder.resolve() / "repository", folder.resolve() / "history"
        (self.repository / "suites").mkdir(parents=True, exist_ok=True)
        if not (self.repository / ".git").exists():
            self._git("init", "--quiet", "--initial-branch", "main")

    def commits(self) -> list[str]:
        """The ids of all commits, oldest first."""
        return self._git("log", "--reverse", "--format=%H").split() if self._git("branch", "--list", "main") else []

    def write(self, commit: Commit, state: State) -> None:
        """The files as they are after `commit`, but for its baseline."""
        readme = self.repository / "README.md"
        text = readme.read_text(encoding="utf-8") if readme.exists() else README
        notes = f"\n{commit.note}\n" if commit.note and commit.note not in text else ""
        files = {
            "README.md": text + notes,
            "pytest.ini": INI + (SELDOM.format(state.timed_every) if state.timed_every > 1 else ""),
            ".gitignore": ".pytest_cache/\n__pycache__/\n",
            f"suites/{SUITE}.py": suite_text(state),
        }
        for name, content in files.items():
            (self.repository / name).write_text(content, encoding="utf-8")

    def commit(self, number: int, subject: str) -> str:
        """Commit everything; the new commit's id. `number`, from 0, says when it was."""
        time = (START + number * STEP).isoformat()
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", subject, time=time)
        return self._git("rev-parse", "HEAD").strip()

    def test(self, *options: str, history: Path | None = None) -> int:
        """Run the team's gates; the exit status, 0 or 1. Raises MeasurementError for any other."""
        # With "=": pytest takes a folder that stands by itself for one of tests, and looks for its ini file there.
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", f"--ptq-history={history or self.history}"]
        done = subprocess.run(
            [*command, *options],
            cwd=self.repository,
            env={**os.environ, "PYTEST_ADDOPTS": "", "GITHUB_ACTIONS": "", "GITHUB_STEP_SUMMARY": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1):
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise MeasurementError(f"a run of the team ended with status {done.returncode} ({' '.join(said)})")
        return done.returncode

    def _git(self, *arguments: str, time: str | None = None) -> str:
        return git(self.repository, arguments, time)


def git(folder: Path, arguments: Sequence[str], time: str | None = None) -> str:
    """What git prints, with nothing of the user's configuration. Raises MeasurementError when it fails."""
    people = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in TEAM.items()}
    times = {f"GIT_{role}_DATE": time for role in ("AUTHOR", "COMMITTER")} if time else {}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    environment = {**os.environ, **people, **times, **alone}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(f"git {arguments[0]} failed ({done.stderr.strip()})", place=str(folder))
    return done.stdout


def suite_text(state: State) -> str:
    """The suite file."""
    qconfigs = "\n        ".join(_qconfig(name, fields) + "," for name, fields in state.qconfigs.items())
    return SUITE_FILE.format(name=SUITE, calibration=state.calibration, batch_size=state.batch_size, qconfigs=qconfigs)


def _qconfig(name: str, fields: Mapping[str, object]) -> str:
    said = [f'"{name}"', *(f"{key}={_literal(value)}" for key, value in fields.items())]
    return f"QConfig({', '.join(said)})"


def _literal(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))},)"
    return repr(value)
