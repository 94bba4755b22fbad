"""Removing old run records, but never one that a baseline may have been recorded from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pytest_ptq.errors import StoreError, UsageError
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.digest import Digest
from pytest_ptq.store.history import Entry, History


@dataclass(frozen=True)
class Origin:
    """Where a recorded value of a baseline says it comes from. Baselines name no run, so this is what refers to one."""

    suite: str
    data: str
    qconfig: str
    machine: str
    date: date
    commit: str | None

    def may_be(self, digest: Digest) -> bool:
        """Whether the value may come from this run: same commit and day, and it has the qconfig under that machine key.

        A run that began before midnight wrote its baseline on the day after. A commit that either does not know is no
        reason to let the run go.
        """
        if self.date - digest.time.date() not in (timedelta(0), timedelta(1)):
            return False
        if None not in (self.commit, digest.commit) and self.commit != digest.commit:
            return False
        place = (self.suite, self.data, self.qconfig, self.machine)
        return any((key.suite, key.data, key.qconfig, key.machine) == place for key in digest.keys)


@dataclass(frozen=True)
class Plan:
    """What pruning removes, and what it would have removed but for a baseline; oldest first."""

    removed: tuple[Entry, ...]
    referred: tuple[Entry, ...]


def plan_pruning(
    history: History,
    baselines: Iterable[Baselines],
    *,
    keep: int | None = None,
    older_than: timedelta | None = None,
    now: datetime | None = None,
) -> Plan:
    """What is to go: all but the newest `keep` runs, and those that began more than `older_than` before `now`.

    Args:
        history: the runs. Files in its folder that cannot be read as runs are not touched.
        baselines: all that may refer to them.
        keep: how many runs to keep at most; None for any number.
        older_than: None for any age.
        now: with a time zone; the current time by default.

    Raises UsageError when nothing says what is to go.
    """
    if keep is None and older_than is None:
        raise UsageError("nothing says what is to be removed", remedy="Give an age, a number of runs, or both.")
    origins = frozenset(origin for found in baselines for origin in origins_of(found))
    oldest = datetime.min.replace(tzinfo=UTC) if older_than is None else (now or datetime.now(UTC)) - older_than
    surplus = 0 if keep is None else max(0, len(history) - keep)
    due = [e for i, e in enumerate(history.entries) if i < surplus or e.digest.time < oldest]
    referred = tuple(e for e in due if any(origin.may_be(e.digest) for origin in origins))
    kept = {entry.path for entry in referred}
    return Plan(tuple(entry for entry in due if entry.path not in kept), referred)


def remove(plan: Plan) -> None:
    """Remove what `plan` says, oldest first; a file that is gone already is no trouble. Raises StoreError."""
    for entry in plan.removed:
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            message = f"the run record cannot be removed ({error.strerror})"
            raise StoreError(message, place=str(entry.path), remedy="Nothing newer was removed.") from error


def origins_of(baselines: Baselines) -> Iterator[Origin]:
    """Of each recorded value that says when it was recorded."""
    for kind, entry in json.loads(baselines.text)["data"].items():
        for machine, qconfigs in entry.get("recorded", {}).items():
            for qconfig, values in qconfigs.items():
                for value in values.values():
                    day = _day(value.get("date"))
                    if day is not None:
                        yield Origin(baselines.suite, kind, qconfig, machine, day, value.get("commit"))


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:  # a date in somebody's own hand
        return None
