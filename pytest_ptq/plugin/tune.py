"""`--ptq-tune`: instead of running tests, find for each qconfig the layers that have to stay in fp32."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_ptq.errors import PTQError, StoreError
from pytest_ptq.judge.gates import limit_verdict
from pytest_ptq.metrics import INT8_MACS, Limit, Measurement, Metric, Verdict
from pytest_ptq.own_int8 import OwnInt8
from pytest_ptq.plugin.gates import ACCURACY, COVERAGE
from pytest_ptq.plugin.judging import Terms
from pytest_ptq.plugin.marker import Marker
from pytest_ptq.plugin.options import project_root
from pytest_ptq.plugin.selection import Selection
from pytest_ptq.plugin.session import PTQSession
from pytest_ptq.plugin.tune_key import tune_key
from pytest_ptq.qconfig import QConfig
from pytest_ptq.report.printable import printable
from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.strict_json import JSONError, parse
from pytest_ptq.tuning import Tuned, tune


class FileMemory:
    """Noise of layers and evaluations in a JSON file; a file that cannot be read is begun anew.

    Args:
        path: the file; its name says what it was found on.
        metrics: all metrics that may stand in it, by key.
    """

    def __init__(self, path: Path, metrics: Mapping[str, Metric]) -> None:
        self._path, self._metrics = path, metrics
        self._noise: dict[str, float] = {}
        self._evaluations: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, JSONError, KeyError, TypeError, ValueError, AttributeError):
            tree = parse(path.read_text(encoding="utf-8")).value
            noise = {str(layer): float(db) for layer, db in tree["noise_db"].items()}
            for found in tree["evaluations"].values():
                self._read(found)
            self._noise, self._evaluations = noise, tree["evaluations"]

    def noise(self, layer: str) -> float | None:
        return self._noise.get(layer)

    def remember_noise(self, layer: str, value: float) -> None:
        self._noise[layer] = value
        self._write()

    def evaluation(self, layers: Sequence[str]) -> Mapping[str, Measurement] | None:
        found = self._evaluations.get(_key(layers))
        return None if found is None else self._read(found)

    def remember_evaluation(self, layers: Sequence[str], found: Mapping[str, Measurement]) -> None:
        self._evaluations[_key(layers)] = {key: [m.value, m.low, m.high, m.samples] for key, m in found.items()}
        self._write()

    def _read(self, found: Mapping[str, Any]) -> dict[str, Measurement]:
        return {key: Measurement(self._metrics[key], *values) for key, values in found.items()}

    def _write(self) -> None:
        text = json.dumps({"noise_db": self._noise, "evaluations": self._evaluations}, indent=1, allow_nan=False)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, text)
        except OSError as error:
            raise StoreError(f"cannot be written ({error.strerror})", place=str(self._path)) from error


def _key(layers: Sequence[str]) -> str:
    return json.dumps(sorted(layers))


def tune_all(session: PTQSession, write: Any) -> bool:
    """Tune every qconfig of every selected suite; `write` prints a line. True when all of them keep their limits."""
    good = bool(session.selections)
    if not good:
        write("--ptq-tune tunes the suites of --ptq-suite, and none is named")
    for selection in session.selections:
        for qconfig in selection.qconfigs:
            if isinstance(qconfig, OwnInt8):
                continue
            try:
                good &= _tune_one(session, selection, qconfig, write)
            except PTQError as error:
                write(f"ERROR: {printable(str(error))}")
                good = False
    return good


def _tune_one(session: PTQSession, selection: Selection, qconfig: QConfig, write: Any) -> bool:
    run, place = session.run(selection), f"--ptq-tune, {selection.suite.name}[{qconfig.name}]"
    terms = Terms(Marker(), place, session.tables, session.book, selection, qconfig)
    limits = terms.limits(ACCURACY)
    if not limits:
        raise StoreError("no limit on accuracy is set, so that nothing is to be met", place=place)
    key = tune_key(selection, run, qconfig, session.machine.key_for(qconfig.runtime))
    name = f"{selection.suite.name}_{qconfig.name}_{key}.json"
    memory = FileMemory(project_root(session.config) / ".ptq" / "tune" / name, session.tables.known_metrics)
    found = tune(run, qconfig, lambda measured: keeps(limits, measured), memory)
    for line in told(found, limits, place):
        write(printable(line))
    if found.meets:
        kept = run.measure(COVERAGE.name, found.qconfig)[INT8_MACS.key]
        write(f"  {INT8_MACS.title}: {INT8_MACS.format(kept.value)}")
    return found.meets


def keeps(limits: Mapping[str, Limit], measured: Mapping[str, Measurement]) -> bool:
    """Whether every limit was measured and is kept."""
    return all(key in measured and limit_verdict(measured[key], limit) is Verdict.PASS for key, limit in limits.items())


def told(found: Tuned, limits: Mapping[str, Limit], place: str) -> list[str]:
    """What a person reads."""
    times = "full evaluation" if found.evaluations == 1 else "full evaluations"
    spent = f"{found.evaluations} {times} (a sweep over {found.candidates} layers: {found.candidates})"
    figures = ", ".join(
        f"{limit.metric.title} {limit.metric.format(found.measured[key].value)} / {limit.metric.format(limit.bound)}"
        for key, limit in limits.items()
        if key in found.measured
    )
    if not found.meets:
        return [f"{place}: no fallback keeps the limits: {figures} with {len(found.layers)} layers in fp32; {spent}"]
    if not found.layers:
        return [f"{place}: keeps its limits as it is: {figures}; {spent}"]
    count = f"{len(found.layers)} of {found.candidates} layers in fp32"
    return [f"{place}: {count} keep the limits: {figures}; {spent}", f"  {found.source()}"]


def run_tuning(session: PTQSession, pytest_session: pytest.Session) -> bool:
    """In place of the loop over the tests. Failing is told by pytest's own exit status."""
    if pytest_session.testsfailed:
        return False  # what could not be collected is pytest's to tell
    terminal = session.config.pluginmanager.getplugin("terminalreporter")
    write = (lambda line: None) if terminal is None else terminal.write_line
    write("")
    if not tune_all(session, write):
        pytest_session.testsfailed = 1
    session.met = True
    return True
