"""The baseline files of this session: what gates are held against, and what `--ptq-update-baseline` writes.

A limit is a person's decision. `new` writes the defaults of `plugin.gates` where there is none, with a comment that
asks for a review, and judges by them in the same run; nothing ever changes a limit that stands in a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pytest_ptq.metrics import METRICS, Limit, Measurement, Metric
from pytest_ptq.plugin.gates import GATES, Gate
from pytest_ptq.plugin.options import Settings, Update
from pytest_ptq.plugin.results import GateResult
from pytest_ptq.plugin.selection import Selection
from pytest_ptq.qconfig import QConfig
from pytest_ptq.store.baselines import Baselines, baseline_path
from pytest_ptq.store.provenance import Provenance, provenance
from pytest_ptq.store.record import QConfigRecord
from pytest_ptq.suite import packaged_baselines

REVIEW = "default limits, written by --ptq-update-baseline: review them, then take this comment out"


class Book:
    """Baseline files by suite, read once.

    Args:
        root: pytest's root folder, whose `baselines/` is the default place.
        settings: which folder, and whether to update.
        machine_key: whose records count.
    """

    def __init__(self, root: Path, settings: Settings, machine_key: str) -> None:
        self._folder = settings.baseline_dir or root / "baselines"
        self._fallback = packaged_baselines() if settings.baseline_dir is None else None
        self._root = root
        self._update = settings.update
        self._machine_key = machine_key
        self._read: dict[str, Baselines] = {}

    def path(self, suite: str) -> Path:
        """The file that is read: the project's own, else the one that comes with the package."""
        own = baseline_path(self._folder, suite)
        packaged = baseline_path(self._fallback, suite) if self._fallback else own
        return packaged if packaged.is_file() and not own.exists() else own

    def limit(self, selection: Selection, qconfig: QConfig, gate: Gate) -> Limit | None:
        """Raises BaselineError when the file is missing or damaged, unless it is about to be written."""
        found = self._baselines(selection.suite.name).limit(selection.kind, qconfig.name, gate.metric)
        if found is None and self._writes_missing:
            return Limit(gate.metric, gate.default_limit, "default, to be reviewed")
        return found

    def recorded(self, selection: Selection, qconfig: QConfig, gate: Gate) -> Measurement | None:
        """What such a machine recorded; None when none did, or when it is about to be replaced anyway."""
        if self._update is Update.ALL:
            return None
        baselines = self._baselines(selection.suite.name)
        return baselines.recorded(selection.kind, self._machine_key, qconfig.name, gate.metric)

    def tolerance(self, selection: Selection, gate: Gate) -> float | None:
        """Drift that the file allows for the gate's metric; None leaves it to the metric's own."""
        return self._baselines(selection.suite.name).tolerance(selection.kind, gate.metric)

    def update(self, results: Iterable[GateResult], failed: Iterable[GateResult]) -> list[str]:
        """Write what `--ptq-update-baseline` asks for. Returns what changed, a line each. Raises BaselineError."""
        if self._update is None:
            return []
        rejected = {id(result) for result in failed}
        measured = [result for result in results if result.from_suite and result.record.measurements]
        chosen = [r for r in measured if self._update is not Update.FAILED or id(r) in rejected]
        origin = provenance(self._root)
        lines: list[str] = []
        for suite in dict.fromkeys(result.record.suite for result in chosen):
            before = after = self._baselines(suite)
            for result in chosen:
                if result.record.suite == suite:
                    after, changes = self._updated(after, result, origin)
                    lines += changes
            if after is not before:
                written = replace(after, path=baseline_path(self._folder, suite))
                written.write()
                lines.append(f"written to {_shown(written.path, self._root)}")
        return lines

    @property
    def _writes_missing(self) -> bool:
        return self._update in (Update.NEW, Update.ALL)

    def _baselines(self, suite: str) -> Baselines:
        if suite not in self._read:
            path = self.path(suite)
            missing = self._writes_missing and not path.exists()
            self._read[suite] = Baselines.empty(path) if missing else Baselines.read(path)
        return self._read[suite]

    def _updated(self, before: Baselines, result: GateResult, origin: Provenance) -> tuple[Baselines, list[str]]:
        after, lines = before, []
        gate, found = GATES[result.gate], result.record
        if self._writes_missing and before.limit(found.data, found.qconfig, gate.metric) is None:
            after = _with_default_limit(after, found, gate)
            lines.append(_line(found, gate.metric, "no limit", f"limit {gate.default_limit:g}, the default"))
        entry = (found.data, self._machine_key, found.qconfig)
        if self._update is Update.NEW and before.recorded(*entry, gate.metric) is not None:
            return after, lines
        measurements = found.measurements.values()
        for measurement in measurements:
            old = before.recorded(*entry, measurement.metric)
            was = "nothing recorded" if old is None else measurement.metric.format(old.value)
            lines.append(_line(found, measurement.metric, was, measurement.metric.format(measurement.value)))
        return after.with_recorded(*entry, measurements, origin), lines


def _with_default_limit(baselines: Baselines, found: QConfigRecord, gate: Gate) -> Baselines:
    after = baselines.with_limits(found.data, found.qconfig, {gate.metric: gate.default_limit})
    tree = json.loads(after.text)
    tree["data"][found.data]["limits"][found.qconfig].setdefault("comment", REVIEW)
    return Baselines.parse(json.dumps(tree), after.path, METRICS)


def _line(found: QConfigRecord, metric: Metric, before: str, after: str) -> str:
    return f"{found.suite} {found.data} {found.qconfig} {metric.key}: {before} -> {after}"


def _shown(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
