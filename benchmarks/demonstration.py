"""A team's sixty commits, each run for real, with a regression planted in the middle: what the report makes of them.

Every commit of a made-up project changes what the engine does with an embedded model, or only its README. Its gates
are run on this machine, one run at a time, into a history of which the reports are then written. Runs are kept below
`.ptq/demonstration`: interrupted, the command goes on where it was.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from benchmarks.demonstration_story import PLANTED, Commit, State, states
from benchmarks.demonstration_team import Team
from benchmarks.demonstration_text import text_of
from benchmarks.footer import footer
from benchmarks.page import insert
from benchmarks.turns import Turns, add_locks
from pytest_ptq.errors import StoreError
from pytest_ptq.report.html import html_report
from pytest_ptq.report.markdown import markdown_report
from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.history import open_history
from pytest_ptq.store.record import RunRecord

COMMAND = "python -m benchmarks demonstration"
FOLDER = Path(".ptq") / "demonstration"
TITLE = "Garments: sixty runs"
PACKED = "history.tar.gz"


def table(arguments: Sequence[str] = ()) -> str:
    """What was told of the runs, as Markdown; reports go where the arguments say.

    Raises:
        MeasurementError: git, or a run, failed in another way than a gate does.
        StoreError: a kept commit has no run.
    """
    options = _parser().parse_args(arguments)
    make(Team(options.keep), Turns(options.lock), options.runs)
    history = open_history(options.keep / "history")
    runs = list(history)
    text = text_of(runs)
    if options.reports:
        write_reports(options.reports, runs)
        pack([entry.path for entry in history.entries], options.reports / PACKED)
    if options.into:
        insert(options.into, f"{text}\n\n{footer(COMMAND)}", "demonstration")
    return text


def write_reports(folder: Path, runs: Sequence[RunRecord]) -> None:
    """The page of all runs, and Markdown of the newest and of the planted commit's as their pull requests showed it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "report.html", html_report(runs, title=TITLE))
    subjects = [run.commit_subject for run in runs]
    shown = {"report.md": len(runs) - 1} | ({"planted.md": subjects.index(PLANTED)} if PLANTED in subjects else {})
    for name, at in shown.items():
        write_text(folder / name, markdown_report(runs[at], runs[:at]))


def pack(records: Sequence[Path], target: Path) -> None:
    """Records as one file, which is the same for the same records."""
    with gzip.GzipFile(target, "wb", mtime=0) as squeezed, tarfile.open(fileobj=squeezed, mode="w") as packed:
        for path in records:
            entry = tarfile.TarInfo(f"history/{path.name}")
            content = path.read_bytes()
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--runs", type=int, metavar="N", help="only the first N commits")
    parser.add_argument("--keep", type=Path, default=FOLDER, metavar="DIR", help=f"where runs are kept ({FOLDER})")
    parser.add_argument("--reports", type=Path, metavar="DIR", help="where the reports and records go")
    parser.add_argument("--into", type=Path, metavar="FILE", help="a page that the tables are written into")
    add_locks(parser)
    return parser


def make(team: Team, turns: Turns, count: int | None = None) -> None:
    """Commit what is not committed and run what was not run, while nobody else computes.

    Raises:
        MeasurementError: git failed, or a run in another way than a gate does.
        StoreError: a kept commit has no run, and a later one does: the history would not be in order.
    """
    kept = team.commits()
    known = {entry.digest.commit for entry in open_history(team.history).entries}
    done = sum(made in known for made in kept)
    if any(made in known for made in kept[done:]):
        raise StoreError("a commit has no run, and later ones do", remedy=f"Remove {team.history.parent}.")
    for number, (commit, state) in turns.each(list(enumerate(islice(states(), count)))[done:]):
        made = kept[number] if number < len(kept) else _committed(team, number, commit, state)
        timed = (number + 1) % state.timed_every == 0
        status = team.test(*([] if timed else ["--ptq-latency=off"]))
        sys.stderr.write(f"{number + 1:3} {made[:12]} {'pass' if status == 0 else 'FAIL'} {commit.subject}\n")


def _committed(team: Team, number: int, commit: Commit, state: State) -> str:
    """The new commit's id. Where its author recorded the baseline, that is done before, as a person does it."""
    team.write(commit, state)
    if commit.records:
        options = ("--ptq-update-baseline=all", "--ptq-latency=off") if number else ("--ptq-update-baseline=new",)
        with tempfile.TemporaryDirectory() as elsewhere:
            team.test(*options, history=Path(elsewhere))
    return team.commit(number, commit.subject)
