"""`pytest-ptq prune` and `import`: what is kept in the history."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from pytest_ptq.cli.baseline import AnyMetric
from pytest_ptq.cli.output import json_option, say, say_json
from pytest_ptq.cli.runs import history_option, read_any, read_history
from pytest_ptq.errors import UsageError
from pytest_ptq.report.printable import printable
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.history import open_history, write_record
from pytest_ptq.store.prune import plan_pruning, remove

BASELINES = Path("baselines")


@click.command()
@click.option("--keep", metavar="N", type=click.IntRange(0), help="Keep the N newest runs.")
@click.option("--days", metavar="N", type=click.FloatRange(0, 36500), help="Remove runs that are older than N days.")
@click.option(
    "--baselines", "folders", metavar="DIR", type=Path, multiple=True, help="Baselines that may refer to runs."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@history_option
@json_option
def prune(
    keep: int | None, days: float | None, folders: tuple[Path, ...], dry_run: bool, folder: Path, as_json: bool
) -> None:
    """Remove old runs, by number, by age, or whatever either of them says.

    A run that a baseline may have been recorded from stays: one on a machine of the key, from the commit and of the day
    that a recorded value names. Baselines are looked for in `baselines` and in what --baselines names; a file there
    that cannot be read stops it.
    """
    age = None if days is None else timedelta(days=days)
    plan = plan_pruning(read_history(folder), read_baselines(folders), keep=keep, older_than=age)
    if not dry_run:
        remove(plan)
    if as_json:
        names = {"removed": plan.removed, "kept_for_baselines": plan.referred}
        say_json({"dry_run": dry_run, **{key: [e.path.name for e in found] for key, found in names.items()}})
        return
    say(f"{'would remove' if dry_run else 'removed'} {_runs(len(plan.removed))}")
    if plan.referred:
        say(f"kept {_runs(len(plan.referred))} that baselines refer to")


def read_baselines(folders: tuple[Path, ...]) -> list[Baselines]:
    """All of them. Raises UsageError for a folder that was named and is not there, BaselineError for a damaged file."""
    for folder in folders:
        if not folder.is_dir():
            raise UsageError("there is no such folder", place=f"--baselines {folder}")
    files = [path for folder in dict.fromkeys((BASELINES, *folders)) for path in sorted(folder.glob("*.json"))]
    return [Baselines.read(path, AnyMetric()) for path in files if not path.name.startswith(".")]


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=Path)
@history_option
@json_option
def import_(files: tuple[Path, ...], folder: Path, as_json: bool) -> None:
    """Copy runs into the history: run records, or JSON files of pytest-benchmark.

    A run that is there already stays as it is. All files are read before the first is written.
    """
    records = [read_any(path) for path in files]
    there = {entry.digest.run_id for entry in open_history(folder).entries}
    new = {record.run_id: record for record in records if record.run_id not in there}
    written = [write_record(folder, record) for record in new.values()]
    if as_json:
        say_json({"written": [path.name for path in written], "known": len(files) - len(written)})
        return
    for path in written:
        say(printable(str(path)))
    say(f"{_runs(len(written))} imported, {len(files) - len(written)} known already")


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
