"""Baseline files: limits that people set, and what was recorded on each kind of machine."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_ptq.errors import BaselineError
from pytest_ptq.metrics import METRICS, Limit, Measurement, Metric
from pytest_ptq.qconfig import base_name
from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.baseline_format import COMMENT, SCHEMA, FormatError, render, validate
from pytest_ptq.store.baseline_upgrade import upgraded
from pytest_ptq.store.entries import at_speed_of, beside, nearest, replaced, to_entry, to_measurements
from pytest_ptq.store.provenance import Provenance
from pytest_ptq.store.strict_json import JSONError, Located, parse

LARGEST_BYTES = 16 * 2**20
LONGEST_NAME = 100
CORRECT = "Correct it, or restore the file from version control."


def baseline_path(folder: Path, suite: str) -> Path:
    """`<folder>/<suite>.json`. Raises BaselineError for a name that would leave the folder or hide in it."""
    plain = suite.replace("_", "").replace("-", "").replace(".", "")
    if not plain.isalnum() or suite.startswith(".") or len(suite) > LONGEST_NAME:
        raise BaselineError(
            f"{suite[:LONGEST_NAME]!r} cannot name a baseline file",
            remedy=f"Use at most {LONGEST_NAME} letters, digits, '_', '-' and '.', not starting with '.'.",
        )
    return folder / f"{suite}.json"


@dataclass(frozen=True)
class Baselines:
    """One suite's baseline file, as read or as it is to be written. Changes return a new object.

    `metrics` are the keys that a limit may have: the built-in ones and what the user registered.
    """

    path: Path
    suite: str
    metrics: Collection[str] = field(repr=False)
    _located: Located = field(repr=False)
    schema: int = SCHEMA
    """That of the file as it was read; what is written is of SCHEMA."""

    @classmethod
    def read(cls, path: Path, metrics: Collection[str] = METRICS) -> Baselines:
        """Read `path`; an older schema is upgraded in memory (see `baseline_upgrade`), and written so by `write`.

        Raises BaselineError, in one sentence: missing, unreadable, damaged, from a newer schema.
        """
        try:
            if not path.is_file():
                found = "is not a file" if path.exists() else "does not exist"
                message = f"the baseline {found}"
                remedy = f"Write it with `pytest --ptq-suite {path.stem} --ptq-update-baseline new`."
                raise BaselineError(message, place=shown(path), remedy=remedy)
            if path.stat().st_size > LARGEST_BYTES:
                raise BaselineError("the baseline is larger than 16 MiB", place=shown(path), remedy=CORRECT)
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BaselineError("the baseline is not UTF-8 text", place=shown(path), remedy=CORRECT) from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BaselineError(f"the baseline cannot be read ({reason})", place=shown(path)) from error
        return cls.parse(text, path, metrics)

    @classmethod
    def parse(cls, text: str, path: Path, metrics: Collection[str] = METRICS) -> Baselines:
        """The baselines in `text`, which stands or shall stand in `path`. Raises BaselineError naming the line."""
        try:
            located = parse(text)
        except JSONError as fault:
            raise BaselineError(fault.message, place=f"{shown(path)}:{fault.line}", remedy=CORRECT) from fault
        try:
            validate(located.value, metrics)
            if located.value["suite"] != path.stem:
                message = f"the file is for suite {located.value['suite']!r}, its name says {path.stem!r}"
                raise FormatError(message, ("suite",), "Give both the same name.")
        except FormatError as fault:
            place = f"{shown(path)}:{located.lines.get(fault.path, 1)}"
            raise BaselineError(fault.message, place=place, remedy=fault.remedy or CORRECT) from fault
        # Whatever the upgrade keeps still stands on the line it stood on.
        tree = located.value
        return cls(path, tree["suite"], metrics, Located(upgraded(tree), located.lines), tree["schema"])

    @classmethod
    def empty(cls, path: Path, metrics: Collection[str] = METRICS) -> Baselines:
        """Baselines without limits or records, for a file that does not exist yet."""
        tree: dict[str, Any] = {"schema": SCHEMA, "suite": path.stem, "data": {}}
        return cls.parse(render(tree), path, metrics)

    @property
    def text(self) -> str:
        """The file's contents as `write` writes them, one value a line."""
        return render(self._located.value)

    def limit(self, data: str, qconfig: str, metric: Metric) -> Limit | None:
        """The limit on `metric` and the file and line it stands on; None when nobody set one.

        A qconfig in another runtime is held to what is written for it there, or else for it in torch.
        """
        for name in dict.fromkeys((qconfig, base_name(qconfig))):
            path = ("data", data, "limits", name, metric.key)
            bound = self._at(path)
            if bound is not None:
                return Limit(metric, float(bound), self.source(*path))
        return None

    def xfail(self, data: str, qconfig: str, metric: Metric) -> tuple[str, str] | None:
        """Why `metric` is expected to fail, and the file and line that say so; None when it is expected to pass."""
        path = ("data", data, "xfail", qconfig, metric.key)
        reason = self._at(path)
        return None if reason is None else (str(reason), self.source(*path))

    def tolerance(self, data: str, metric: Metric) -> float | None:
        """How much drift is allowed, where the file says so; None leaves it to the gate."""
        found = self._at(("data", data, "tolerances", metric.key))
        return None if found is None else float(found)

    def recorded(
        self, data: str, machine_key: str, qconfig: str, metric: Metric, like: Measurement | None = None
    ) -> Measurement | None:
        """What a machine of this key recorded, with its provenance in `details`; None when none did.

        Of values at several speeds the one that is nearest to the speed of `like`, or the first.
        """
        return nearest(self.records(data, machine_key, qconfig, metric), like)

    def records(self, data: str, machine_key: str, qconfig: str, metric: Metric) -> tuple[Measurement, ...]:
        """All that machines of this key recorded, one a speed."""
        entry = self._at(("data", data, "recorded", machine_key, qconfig, metric.key))
        return () if entry is None else to_measurements(metric, entry)

    def machine_keys(self, data: str) -> tuple[str, ...]:
        """Keys of the machines that anything was recorded on."""
        return tuple(sorted(self._at(("data", data, "recorded")) or {}))

    def source(self, *path: str) -> str:
        """`file:line` of the value at `path`, or the file alone."""
        line = self._located.lines.get(path)
        return f"{shown(self.path)}:{line}" if line else shown(self.path)

    def names(self, data: str) -> dict[str, str]:
        """Qconfigs that the file says anything about, and where each is named first."""
        found: dict[str, str] = {}
        places: list[tuple[str, ...]] = [("data", data, part) for part in ("limits", "xfail")]
        places += [("data", data, "recorded", key) for key in self.machine_keys(data)]
        for place in places:
            for name in self._at(place) or {}:
                found.setdefault(name, self.source(*place, name))
        return found

    def kinds(self) -> dict[str, str]:
        """Kinds of data that the file says anything about, and where."""
        return {kind: self.source("data", kind) for kind in self._at(("data",))}

    def with_limits(
        self, data: str, qconfig: str, bounds: Mapping[Metric, float], comment: str | None = None
    ) -> Baselines:
        """These baselines with limits added; a limit or comment that is there already is never changed."""
        tree = copy.deepcopy(self._located.value)
        limits = tree["data"].setdefault(data, {}).setdefault("limits", {}).setdefault(qconfig, {})
        for metric, bound in bounds.items():
            limits.setdefault(metric.key, bound)
        if comment is not None:
            limits.setdefault(COMMENT, comment)
        return self._replaced(tree)

    def with_recorded(
        self,
        data: str,
        machine_key: str,
        qconfig: str,
        measurements: Iterable[Measurement],
        provenance: Provenance | None = None,
        *,
        missing: bool = False,
    ) -> Baselines:
        """These baselines with `measurements` recorded for machines of `machine_key`; all else stays.

        A value that is recorded already, down to its interval and counts, keeps its provenance: it is as true as it
        was, and a reviewer reads changes only.

        missing: only add what there is no record of, at the speed at which it was measured.
        """
        tree = copy.deepcopy(self._located.value)
        machines = tree["data"].setdefault(data, {}).setdefault("recorded", {})
        entries = machines.setdefault(machine_key, {}).setdefault(qconfig, {})
        for measurement in measurements:
            new, key = to_entry(measurement, provenance), measurement.metric.key
            if key not in entries:
                entries[key] = new
            elif not missing:
                entries[key] = replaced(entries[key], new)
            elif not at_speed_of(self.records(data, machine_key, qconfig, measurement.metric), measurement):
                entries[key] = beside(entries[key], new)
        if not entries:
            return self
        return self._replaced(tree)

    def write(self) -> None:
        """Write the file at once or not at all. Raises BaselineError."""
        refuse_link(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, self.text)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _replaced(self, tree: dict[str, Any]) -> Baselines:
        # Read again what would be written: the lines are right, and nothing is written that cannot be read.
        return Baselines.parse(render(tree), self.path, self.metrics)

    def _at(self, path: tuple[str, ...]) -> Any:
        found = self._located.value
        for key in path:
            if key not in found:
                return None
            found = found[key]
        return found


def refuse_link(path: Path) -> None:
    """Raises BaselineError: a link would be replaced by a file, or what it points to changed behind one's back."""
    if path.is_symlink():
        remedy = "Replace the link by the file itself, or name its folder with --ptq-baseline-dir."
        raise BaselineError("the baseline is a symbolic link", place=shown(path), remedy=remedy)


def unwritable(path: Path, error: OSError) -> BaselineError:
    """One sentence for a baseline that could not be written."""
    remedy = "Nothing was changed. Make room and make the folder writable, or name another with --ptq-baseline-dir."
    message = f"the baseline cannot be written ({error.strerror or error})"
    return BaselineError(message, place=shown(path), remedy=remedy)


def shown(path: Path) -> str:
    """As a person would type it: from the working directory, where the file is below it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are named
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
