"""The baseline files of this session: what gates are held against, and what `--ptq-update-baseline` writes.

A limit is a person's decision. `new` writes the defaults of `plugin.gates` where there is none, with a comment that
asks for a review, and judges by them in the same run; nothing ever changes a limit that stands in a file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from pytest_ptq.errors import BaselineError
from pytest_ptq.measure.machine import Machine
from pytest_ptq.metrics import METRICS, Limit, Measurement, Metric
from pytest_ptq.plugin.fastest import waits
from pytest_ptq.plugin.gates import GATES
from pytest_ptq.plugin.options import Settings, Update
from pytest_ptq.plugin.results import GateResult
from pytest_ptq.plugin.selection import Selection
from pytest_ptq.qconfig import RUNTIMES, QConfig
from pytest_ptq.store.baseline_format import SCHEMA
from pytest_ptq.store.baseline_upgrade import NOTES
from pytest_ptq.store.baselines import Baselines, baseline_path, shown
from pytest_ptq.store.diff import changes
from pytest_ptq.store.provenance import Provenance, named_versions, provenance, versions
from pytest_ptq.store.update import update_file
from pytest_ptq.suite import packaged_baselines

DEFAULT = "a default that this run writes"
"""Behind the file's name, where the limit does not stand in it yet."""

JUDGED = "judged"


def is_written(limit: Limit) -> bool:
    """Whether somebody wrote a limit down: not so one that this run is going to write."""
    return not limit.source.endswith(DEFAULT)


REVIEW = "default limits, written by --ptq-update-baseline: review them, then take this comment out"


class Book:
    """Baseline files by suite, read once.

    Args:
        root: pytest's root folder, whose `baselines/` is the default place.
        settings: which folder, and whether to update.
        machine: whose records count, by the key that it has for the runtime of what was measured.
        metrics: keys that a limit may have.
    """

    def __init__(
        self, root: Path, settings: Settings, machine: Machine, metrics: Collection[str] = tuple(METRICS)
    ) -> None:
        self._folder = settings.baseline_dir or root / "baselines"
        self._fallback = packaged_baselines() if settings.baseline_dir is None else None
        self._root = root
        self._update = settings.update
        self._machine = machine
        self._metrics = metrics
        self._read: dict[str, Baselines] = {}

    def path(self, suite: str) -> Path:
        """The file that is read: the project's own, else the one that comes with the package."""
        own = self._own(suite)
        packaged = baseline_path(self._fallback, suite) if self._fallback else own
        return packaged if packaged.is_file() and not own.exists() else own

    def limit(
        self, selection: Selection, qconfig: QConfig, metric: Metric, default: float | None = None
    ) -> Limit | None:
        """The limit that the file sets, or else the `default` that this run is going to write there.

        Raises BaselineError when the file is missing or damaged, unless it is about to be written.
        """
        found = self._baselines(selection.suite.name).limit(selection.kind, qconfig.name, metric)
        if found is None and self._writes_missing and default is not None:
            return Limit(metric, default, f"{shown(self._own(selection.suite.name))}, {DEFAULT}")
        return found

    def recorded(self, selection: Selection, qconfig: QConfig, measured: Measurement) -> Measurement | None:
        """What such a machine recorded of the metric, at the speed that is nearest to that of `measured`.

        None when none did, or when it is about to be replaced anyway.
        """
        if self._update is Update.ALL:
            return None
        baselines = self._baselines(selection.suite.name)
        key = self._machine.key_for(qconfig.runtime)
        return baselines.recorded(selection.kind, key, qconfig.name, measured.metric, measured)

    def tolerance(self, selection: Selection, metric: Metric) -> float | None:
        """Drift that the file allows for the metric; None leaves it to the metric's own."""
        return self._baselines(selection.suite.name).tolerance(selection.kind, metric)

    def xfail(self, selection: Selection, qconfig: QConfig, metric: Metric) -> tuple[str, str] | None:
        """Why the file expects the metric to fail, and the file and line that say so; None where it does not."""
        return self._baselines(selection.suite.name).xfail(selection.kind, qconfig.name, metric)

    def update(self, results: Iterable[GateResult], failed: Iterable[GateResult]) -> tuple[list[str], list[str]]:
        """Write what `--ptq-update-baseline` asks for, onto each file as it is by now.

        Returns lines that tell what changed, and a sentence for each file that could not be written.
        """
        if self._update is None:
            return [], []
        rejected = {id(result) for result in failed}
        measured = [result for result in results if result.from_suite and result.record.measurements]
        chosen = [r for r in measured if self._update is not Update.FAILED or id(r) in rejected]
        origin = provenance(self._root)
        lines: list[str] = []
        problems: list[str] = []
        for suite in dict.fromkeys(result.record.suite for result in chosen):
            try:
                lines += self._update_suite(suite, [r for r in chosen if r.record.suite == suite], origin)
            except BaselineError as error:
                problems.append(str(error))
        return lines, problems

    def drift(self, selection: Selection) -> str:
        """For the header: whether drift will be judged, and if not, on which machines it would be; by runtime."""
        if self._update is Update.ALL:
            return "not judged (recorded anew)"
        keys = self._baselines(selection.suite.name).machine_keys(selection.kind)
        runtimes = dict.fromkeys(q.runtime for q in selection.qconfigs if not waits(q)) or {RUNTIMES[0]: None}
        found = {runtime: _drift(runtime, self._machine.key_for(runtime), keys) for runtime in runtimes}
        if list(found) == [RUNTIMES[0]] or set(found.values()) == {JUDGED}:
            return next(iter(found.values()))
        return "; ".join(f"{runtime}: {said}" for runtime, said in found.items())

    def current(self, suite: str) -> Baselines:
        """The baselines as they are on disk now. Raises BaselineError."""
        return Baselines.read(self.path(suite), self._metrics)

    @property
    def folder(self) -> Path:
        """Where baselines are written."""
        return self._folder

    @property
    def _writes_missing(self) -> bool:
        return self._update in (Update.NEW, Update.ALL)

    def _own(self, suite: str) -> Path:
        return baseline_path(self._folder, suite)

    def _baselines(self, suite: str) -> Baselines:
        if suite not in self._read:
            path = self.path(suite)
            missing = self._writes_missing and not path.exists()
            self._read[suite] = _read(path, self._metrics, missing=missing)
        return self._read[suite]

    def _update_suite(self, suite: str, results: list[GateResult], origin: Provenance) -> list[str]:
        def change(baselines: Baselines) -> Baselines:
            for result in results:
                baselines = self._changed(baselines, result, origin)
            return baselines

        done = update_file(replace(self._baselines(suite), path=self._own(suite)), change)
        name = _relative(done.after.path, self._root)
        if not done.wrote:
            return [f"baseline {name} says so already: nothing to write"]
        lines = [f"baseline {NOTES[step]}" for step in range(done.before.schema, SCHEMA)]
        for (data, qconfig, runtime), found in _grouped(results).items():
            lines += changes(done.before, done.after, data, self._machine.key_for(runtime), qconfig, found)
        return [*lines, f"baseline written to {name}"]

    def _changed(self, before: Baselines, result: GateResult, origin: Provenance) -> Baselines:
        """`before` with what this run has to say about one gate of one qconfig."""
        gate, found = GATES[result.gate], result.record
        after = before
        defaults = {m.metric: gate.default(key) for key, m in found.measurements.items()}
        missing = {
            metric: bound
            for metric, bound in defaults.items()
            if bound is not None and before.limit(found.data, found.qconfig, metric) is None
        }
        if self._writes_missing and missing:
            after = before.with_limits(found.data, found.qconfig, missing, REVIEW)
        entry = (found.data, self._machine.key_for(found.runtime), found.qconfig)
        if found.runtime != RUNTIMES[0]:
            origin = replace(origin, versions=named_versions(versions([found.runtime]), found.runtime))
        only_new = self._update is Update.NEW
        return after.with_recorded(*entry, found.measurements.values(), origin, missing=only_new)


def _drift(runtime: str, key: str, recorded: Collection[str]) -> str:
    """Where nothing is recorded for the key, it tells the machines that something is recorded on in that runtime."""
    if key in recorded:
        return JUDGED
    named = {other: next((name for name in RUNTIMES[1:] if f"/{name}/" in other), RUNTIMES[0]) for other in recorded}
    others = [other for other, where in named.items() if where == runtime]
    return f"not judged (recorded on {', '.join(others) or 'no machine'})"


def _grouped(results: Iterable[GateResult]) -> dict[tuple[str, str, str], list[Metric]]:
    """What was measured of each qconfig on each kind of data, in its runtime."""
    found: dict[tuple[str, str, str], list[Metric]] = {}
    for result in results:
        metrics = found.setdefault((result.record.data, result.record.qconfig, result.record.runtime), [])
        metrics += [measurement.metric for measurement in result.record.measurements.values()]
    return found


def _read(path: Path, metrics: Collection[str], *, missing: bool) -> Baselines:
    return Baselines.empty(path, metrics) if missing else Baselines.read(path, metrics)


def _relative(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
