"""What tests of `SuiteRun` share where the int8 model runs in several runtimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from pytest_ptq import engine
from pytest_ptq.engine.export import export_onnx
from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.load import Load
from pytest_ptq.measure.pairs import Pairs, ProcessTimes
from pytest_ptq.measure.processes import CONTROL, REFERENCE, Job
from pytest_ptq.qconfig import QConfig, in_runtime
from pytest_ptq.runtimes import RUNTIMES

OTHERS = ("onnxruntime", "openvino")
BOTH = pytest.mark.parametrize("runtime", OTHERS)


def in_each(*qconfigs: QConfig) -> tuple[QConfig, ...]:
    return tuple(in_runtime(qconfig, runtime) for qconfig in qconfigs for runtime in RUNTIMES)


def counted_calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Which models were calibrated, converted and exported from now on."""
    found: dict[str, list[Any]] = {"calibrate": [], "convert": [], "export": []}

    def counted(name: str, real: Callable[..., Any], what: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            found[name].append(what(*args, **options))
            return real(*args, **options)

        return call

    pipeline = engine.pipeline
    monkeypatch.setattr(pipeline, "calibrate", counted("calibrate", pipeline.calibrate, lambda *_: 1))
    monkeypatch.setattr(pipeline, "convert", counted("convert", pipeline.convert, lambda _, __, q, *___: q.name))
    told = counted("export", export_onnx, lambda model, *_, runtime, **__: (model.stage, runtime))
    monkeypatch.setattr("pytest_ptq.engine.export.export_onnx", told)
    return found


class Stopwatch:
    """Stands in for processes: remembers the jobs, and times each model by its name."""

    def __init__(self, ms: dict[str, float] | None = None, broken: str = "") -> None:
        self.jobs: list[Job] = []
        self.ms, self.broken = ms or {}, broken

    def __call__(self, job: Job, seeds: Sequence[int], **_: Any) -> Iterator[ProcessTimes]:
        self.jobs.append(job)
        if job.runtime == self.broken:
            raise MeasurementError(f"{job.runtime} cannot run the model")
        ms = self.ms.get(job.runtime, 1.0)
        pairs = Pairs((ms, ms), (ms, ms), (True, False))
        names = [CONTROL, *(name for name in job.models if name != REFERENCE)]
        for _ in seeds:
            yield ProcessTimes(dict.fromkeys(names, pairs), Load(0.0, None), 3, 0.0, 80.0)


def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """What times models in place of processes from now on."""
    watch = Stopwatch()
    monkeypatch.setattr("pytest_ptq.measure.latency.run_processes", watch)
    return watch
