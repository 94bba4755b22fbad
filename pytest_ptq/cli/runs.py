"""Arguments that name a run: `latest`, `latest~1`, the beginning of an id or of a commit, or a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from pytest_ptq.cli.output import commit, day, warn
from pytest_ptq.errors import StoreError, UnknownNameError, UsageError
from pytest_ptq.store.benchmark_json import is_benchmarks, record_of_benchmarks
from pytest_ptq.store.history import Entry, History, open_history, read_record
from pytest_ptq.store.record import RunRecord

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = Path(".ptq") / "history"
LATEST = re.compile(r"latest(?:~([0-9]{1,9}))?")
SHORTEST = 4
"""Fewest characters that are taken for the beginning of a commit, as in git."""


def history_option(command: F) -> F:
    """`--history`; the parameter is called `folder`."""
    help_ = "Folder of run records, as pytest's --ptq-history."
    option = click.option(
        "--history", "folder", metavar="DIR", type=Path, default=FOLDER, show_default=True, help=help_
    )
    return option(command)


def complete_run(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """`latest` and the newest runs of the folder."""
    try:
        entries = open_history(Path(ctx.params.get("folder") or FOLDER)).entries[-50:]
    except StoreError:
        entries = ()
    told = [CompletionItem("latest", help="the newest run")]
    told += [CompletionItem(e.digest.run_id, help=f"{day(e.digest.time)} {e.digest.subject or ''}") for e in entries]
    return [item for item in told if item.value.startswith(begun)]


def complete_suite_with_runs(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    try:
        entries = open_history(Path(ctx.params.get("folder") or FOLDER)).entries
    except StoreError:
        return []
    names = sorted({name for entry in entries for name in entry.digest.suites})
    return [CompletionItem(name) for name in names if name.startswith(begun)]


def run_argument(command: F, name: str = "run", **more: Any) -> F:
    return click.argument(name, metavar="RUN", shell_complete=complete_run, **more)(command)


def read_history(folder: Path) -> History:
    """The runs of a folder; files that are none are told. Raises UsageError for one that was named and is not there."""
    if folder != FOLDER and not folder.is_dir():
        raise UsageError("there is no such folder", place=f"--history {folder}")
    history = open_history(folder)
    warn(history.problems)
    return history


def find_record(name: str, folder: Path) -> RunRecord:
    """The record that `name` means. Raises UnknownNameError, UsageError for a name of several runs, StoreError."""
    path = Path(name)
    if path.is_file():
        return read_any(path)
    if path.suffix == ".json" or len(path.parts) > 1:
        raise UsageError(f"there is no file {name!r}", remedy="Name a run record, an id, a commit or latest.")
    return read_record(find_entry(name, read_history(folder), folder).path)


def read_any(path: Path) -> RunRecord:
    """A run record, or what pytest-benchmark wrote. Raises StoreError."""
    if not is_benchmarks(path):
        return read_record(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise StoreError(f"the file cannot be read ({error})", place=str(path)) from error
    return record_of_benchmarks(text, str(path))


def find_entry(name: str, history: History, folder: Path) -> Entry:
    """Raises UnknownNameError or UsageError."""
    if not history.entries:
        remedy = "Run a suite first (pytest --ptq-suite NAME), or name another folder with --history."
        raise UsageError("there are no runs yet", place=str(folder), remedy=remedy)
    if found := LATEST.fullmatch(name):
        back = int(found[1] or 0)
        if back >= len(history):
            raise UsageError(f"there are only {len(history)} runs", place=name, remedy=f"Known: {folder}.")
        return history.entries[-1 - back]
    by_id = [entry for entry in history.entries if name and entry.digest.run_id.startswith(name)]
    by_commit = [e for e in history.entries if len(name) >= SHORTEST and (e.digest.commit or "").startswith(name)]
    commits = {str(entry.digest.commit) for entry in by_commit}
    exact = [entry for entry in by_id if entry.digest.run_id == name]
    if len(exact or by_id) == 1 and not (by_commit and not exact):
        return (exact or by_id)[0]
    if len(commits) == 1 and not by_id:
        return by_commit[-1]
    if by_id or by_commit:
        meant = [f"run {e.digest.run_id}" for e in by_id[:3]] + [f"commit {commit(c)}" for c in sorted(commits)[:3]]
        raise UsageError(f"{name!r} may mean {', '.join(meant)}", remedy="Give more of it.")
    known = {entry.digest.run_id for entry in history.entries[-20:]}
    raise UnknownNameError("run", name, {"latest", "latest~1", *known}, place=str(folder))
