"""Where a number comes from: when, from which commit, with which versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest_ptq

PACKAGES = ("torch", "torchvision", "numpy", "pytest", "pytest-benchmark")
"""Packages whose versions may change a number."""
OF_RUNTIME: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
}
"""Packages whose versions may change what is measured in a runtime."""

GIT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Provenance:
    """Written beside each recorded value, so that a reviewer can tell how old it is and what it was made with."""

    date: str
    """Day in UTC, `2026-01-31`."""

    commit: str | None
    versions: str
    """`torch 2.15.0, torchvision 0.29.2, pytest-ptq 0.1.0`."""


def provenance(folder: Path | None = None, now: datetime | None = None, runtime: str = "torch") -> Provenance:
    """Of a number measured now in `runtime`, with the sources in `folder` (default: the working directory)."""
    commit, day = current_commit(folder), (now or datetime.now(UTC)).astimezone(UTC).date().isoformat()
    return Provenance(day, commit, named_versions(versions([runtime]), runtime))


def named_versions(found: Mapping[str, str], runtime: str = "torch") -> str:
    """Those that a baseline tells of a number, of all that a run knows: `runtime` is where the number is from."""
    told = dict.fromkeys(("torch", "torchvision", runtime, "pytest-ptq"))
    return ", ".join(f"{name} {found[name]}" for name in told if name in found)


def versions(runtimes: Iterable[str] = ()) -> dict[str, str]:
    """Version of python, of this package and of each installed package that may change a number; imports none of them.

    Args:
        runtimes: where models ran. Of what only some runtimes need, nothing is said unless it was used.
    """
    found = {"python": platform.python_version(), "pytest-ptq": pytest_ptq.__version__}
    used = [name for runtime in runtimes for name in OF_RUNTIME.get(runtime, ())]
    for name in dict.fromkeys((*PACKAGES, *used)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return dict(sorted(found.items()))


def current_commit(folder: Path | None = None, *, timeout_s: float = GIT_TIMEOUT_S) -> str | None:
    """The commit checked out in `folder`, with "-dirty" behind it when tracked files differ.

    None outside a repository, without git, or when git does not answer in time: a run never waits for it.
    """
    where = folder or Path.cwd()
    commit = _git(["rev-parse", "--verify", "HEAD"], where, timeout_s)
    if not commit:
        return None
    changes = _git(["status", "--porcelain", "--untracked-files=no"], where, timeout_s)
    return f"{commit}-dirty" if changes else commit


@dataclass(frozen=True)
class CommitNames:
    """By what people know a commit; None for what is unknown."""

    branch: str | None = None
    time: datetime | None = None
    """When it was committed."""
    subject: str | None = None


LONGEST_SUBJECT = 200
BRANCHES = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "BUILDKITE_BRANCH", "GIT_BRANCH")
"""Variables in which CI services name the branch; what they check out is a commit."""


def commit_names(folder: Path | None = None, *, timeout_s: float = GIT_TIMEOUT_S) -> CommitNames:
    """Of the commit that `current_commit` names. Never fails, as that does not."""
    where = folder or Path.cwd()
    told = _git(["log", "-1", "--no-show-signature", "--format=%cI%n%s"], where, timeout_s)
    if not told:
        return CommitNames()
    branch = _git(["symbolic-ref", "--short", "-q", "HEAD"], where, timeout_s)
    named = branch or next((os.environ[key] for key in BRANCHES if os.environ.get(key)), None)
    time, _, subject = told.partition("\n")
    try:
        committed = datetime.fromisoformat(time)
    except ValueError:  # a log format of somebody's own
        return CommitNames(named)
    return CommitNames(named, committed, subject[:LONGEST_SUBJECT] or None)


def _git(arguments: list[str], folder: Path, timeout_s: float) -> str | None:
    # No optional locks: looking at the state must not disturb a git command that runs beside.
    environment: Mapping[str, str] = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
