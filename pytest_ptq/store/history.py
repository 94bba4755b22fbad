"""The history folder: one run record a file, named so that sorting by name is sorting by time.

The files are all there is. Histories are merged by copying files from one folder into another, as CI artifacts are: no
two runs have the same name, and a record that is there under two names counts once. Whatever writes here writes whole
files under new names, so that any number of runs may end at the same time.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from pytest_ptq.errors import StoreError
from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.digest import Digest, digest_of
from pytest_ptq.store.glance import Glance
from pytest_ptq.store.index import Index, Stamp, read_index, stamps, write_index
from pytest_ptq.store.record import RunRecord
from pytest_ptq.store.series import Point, SeriesKey

ELSEWHERE = "Make the folder writable, or name another with --ptq-history."


REWRITTEN_FROM = 0.02
"""Share of files that the index may not know before it is written anew: reading those takes less than writing it."""


def record_name(record: RunRecord) -> str:
    """`20260131T120000.000000Z-0123456789ab.json`: the time in UTC, then what sets apart runs of one microsecond."""
    return f"{record.time:%Y%m%dT%H%M%S.%f}Z-{record.run_id}.json"


def write_record(folder: Path, record: RunRecord) -> Path:
    """Write `record` into `folder` (made if need be), the whole file or none. Raises StoreError."""
    if not record.run_id.isalnum():
        raise StoreError(f"{record.run_id!r} cannot name a run", remedy="Leave run_id to be chosen.")
    path = folder / record_name(record)
    text = record.to_json()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise StoreError("a run record of this name is there already", place=str(path))
        write_text(path, text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"the run record cannot be written ({reason})"
        raise StoreError(message, place=str(folder), remedy=ELSEWHERE) from error
    return path


def read_record(path: Path) -> RunRecord:
    """The record in `path`. Raises StoreError: missing, damaged, from another schema."""
    return RunRecord.from_json(read_text(path), str(path))


def read_text(path: Path) -> str:
    """What stands in `path`. Raises StoreError."""
    try:
        with path.open("rb", buffering=0) as file:  # unbuffered: the whole of it is read at once
            return file.readall().decode()
    except (OSError, ValueError) as error:
        raise StoreError(f"the run record cannot be read ({error})", place=str(path)) from error


def list_records(folder: Path) -> list[Path]:
    """The record files of `folder`, oldest first; none when there is no such folder."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


@dataclass(frozen=True)
class Entry:
    """One run of a history: where it is, and what is known of it without reading the whole record."""

    path: Path
    digest: Digest


class History(Sequence[RunRecord]):
    """The runs of a folder, oldest first. As a sequence it reads whole records, each time that one is asked for.

    Args:
        entries: in any order; of those with the same run id, the first one by name counts.
        problems: a sentence for each file that is no run record, or one that cannot be read.
    """

    def __init__(self, entries: Iterable[Entry], problems: Sequence[str] = ()) -> None:
        runs: dict[str, Entry] = {}
        for entry in sorted(entries, key=lambda entry: entry.path.name):
            runs.setdefault(entry.digest.run_id, entry)
        self.entries = tuple(sorted(runs.values(), key=lambda entry: (entry.digest.time, entry.digest.run_id)))
        self.problems = tuple(problems)

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> RunRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[RunRecord]: ...

    def __getitem__(self, index: int | slice) -> RunRecord | list[RunRecord]:
        """Raises StoreError for a record that is gone or damaged by now."""
        if isinstance(index, slice):
            return [read_record(entry.path) for entry in self.entries[index]]
        return read_record(self.entries[index].path)

    def series(
        self, *, suite: str | None = None, metrics: Iterable[str] | None = None
    ) -> Mapping[SeriesKey, tuple[Point, ...]]:
        """What `collect_series` makes of all records, of one suite and some metric keys where these are given."""
        wanted = None if metrics is None else frozenset(metrics)
        found: dict[SeriesKey, list[Point]] = {}
        for entry in self.entries:
            for key, point in entry.digest.points(suite, wanted):
                found.setdefault(key, []).append(point)
        return {key: tuple(found[key]) for key in sorted(found)}


def open_history(folder: Path) -> History:
    """All runs in `folder`; none when there is no such folder.

    Only files that are new or changed since somebody last looked are read: what was read is kept in a hidden index
    beside them, which is written anew here and never believed about a file that is not the one it was made from.

    Raises StoreError when the folder cannot be listed.
    """
    try:
        there = stamps(folder)
    except OSError as error:
        raise StoreError(f"the history cannot be listed ({error.strerror})", place=str(folder)) from error
    with _without_gc():
        known = read_index(folder) if there else {}
        entries, problems = dict(_still_true(known, there)), list[str]()
        glance = Glance()
        for name in sorted(there.keys() - entries.keys()):
            path = folder / name
            try:
                text = read_text(path)
                entries[name] = there[name], glance.digest(text) or digest_of(RunRecord.from_json(text, str(path)))
            except StoreError as error:
                problems.append(str(error))
        news = sum(known.get(name) is not entry for name, entry in entries.items()) + len(known.keys() - entries.keys())
        if news > REWRITTEN_FROM * len(entries):
            write_index(folder, entries)
        return History((Entry(folder / name, digest) for name, (_, digest) in entries.items()), problems)


@contextlib.contextmanager
def _without_gc() -> Iterator[None]:
    """Nothing that is read holds itself, and looking for what does takes a third of the time where there is much."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _still_true(known: Index, there: Mapping[str, Stamp]) -> Iterator[tuple[str, tuple[Stamp, Digest]]]:
    for name, entry in known.items():
        if there.get(name) == entry[0]:
            yield name, entry
