"""SuiteRun where runtimes are timed: each against its own fp32, and which of them is the fastest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from in_runtimes import BOTH, Stopwatch, counted_calls, in_each, stopwatch
from small_run import Noise, suite

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.pairs import ProcessTimes
from pytest_ptq.measure.processes import REFERENCE
from pytest_ptq.measure.turns import time_in_turn
from pytest_ptq.qconfig import MINMAX, X86, in_runtime
from pytest_ptq.runner import SuiteRun
from pytest_ptq.runner.fastest import Fastest
from pytest_ptq.runtimes import RUNTIMES


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    return counted_calls(monkeypatch)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    return stopwatch(monkeypatch)


def test_a_runtime_is_timed_by_itself_against_its_own_fp32(watch: Stopwatch, calls: dict[str, list[Any]]) -> None:
    run = SuiteRun(suite(Noise()), threads=1)
    run.timed_together = in_each(X86, MINMAX)
    run.latency_samples(X86)
    assert calls["export"] == [], "whoever asks for torch waits for no other runtime"
    for qconfig in run.timed_together:
        run.latency_samples(qconfig)
    assert sorted(job.runtime for job in watch.jobs) == ["onnxruntime", "openvino", "torch"]
    for job in watch.jobs:
        suffix = "" if job.runtime == "torch" else f"-{job.runtime}"
        assert set(job.models) == {REFERENCE, f"int8 x86{suffix}", f"int8 minmax{suffix}"}
        if job.runtime != "torch":
            reference = onnx.load(str(job.models[REFERENCE])).graph
            assert not [node for node in reference.node if node.op_type == "QuantizeLinear"]
            assert {p.key: p.value for p in onnx.load(str(job.models[REFERENCE])).metadata_props}["stage"] == "fused"


def fastest(run: SuiteRun, monkeypatch: pytest.MonkeyPatch, watch: Stopwatch) -> Any:
    monkeypatch.setattr(time_in_turn, "__defaults__", (3, watch))
    return run.fastest(replace(X86, name="x86-fastest", runtime="fastest"))


def test_the_fastest_runtime_is_measured_once(monkeypatch: pytest.MonkeyPatch, calls: dict[str, list[Any]]) -> None:
    run, watch = SuiteRun(suite(Noise()), threads=1), Stopwatch({"torch": 3.0, "onnxruntime": 1.0, "openvino": 2.0})
    found = fastest(run, monkeypatch, watch)
    assert (found.runtime, found.failed) == ("onnxruntime", {})
    assert list(found.ms.items()) == [("torch", 3.0), ("onnxruntime", 1.0), ("openvino", 2.0)]
    assert len(watch.jobs) == 9
    assert all(set(job.models) == {REFERENCE} and job.threads == 1 for job in watch.jobs)
    assert run.fastest(in_runtime(X86, "openvino")) is found
    assert run.fastest_ms(X86) == found.ms
    assert (calls["convert"], len(calls["export"])) == (["x86"], 2), "and no fp32 was exported for it"


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"torch": (3.0, 3.1, 3.2), "onnxruntime": (2.0, 2.1, 2.2), "openvino": (1.0, 1.1, 1.2)}, "openvino"),
        ({"torch": (1.02, 1.03, 1.2), "onnxruntime": (1.0, 1.02, 1.3), "openvino": (1.0, 1.01, 1.02)}, "torch"),
        ({"torch": (1.06, 1.07, 1.08), "onnxruntime": (1.01, 1.04, 1.3), "openvino": (1.0, 1.0, 1.02)}, "onnxruntime"),
        # The processes overlap, and the medians are too far apart; those are near, and no processes overlap.
        ({"torch": (1.0, 1.06, 1.2), "onnxruntime": (1.02, 1.03, 1.03), "openvino": (0.99, 1.0, 1.01)}, "openvino"),
    ],
)
def test_of_runtimes_that_cannot_be_told_apart_the_first_is_taken(
    times: dict[str, tuple[float, ...]], chosen: str
) -> None:
    found = Fastest(times, {})
    assert found.runtime == chosen
    assert found.ms == {name: sorted(values)[1] for name, values in times.items()}


def test_a_runtime_that_fails_does_not_win(monkeypatch: pytest.MonkeyPatch) -> None:
    run = SuiteRun(suite(Noise()), threads=1)
    found = fastest(run, monkeypatch, Stopwatch({"onnxruntime": 0.1, "openvino": 0.5}, broken="onnxruntime"))
    assert found.runtime == "openvino"
    assert found.failed == {"onnxruntime": "measure: onnxruntime cannot run the model"}


def test_where_no_runtime_can_the_first_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Iterator[ProcessTimes]:
        raise MeasurementError("the machine is on fire")

    run = SuiteRun(suite(Noise()), threads=1)
    with pytest.raises(MeasurementError, match="on fire"):
        fastest(run, monkeypatch, fail)  # type: ignore[arg-type]


@BOTH
def test_images_of_another_size_than_is_timed_have_a_file_of_their_own(
    runtime: str, watch: Stopwatch, calls: dict[str, list[Any]], tmp_path: Path
) -> None:
    qconfig = in_runtime(X86, runtime)
    run = SuiteRun(replace(suite(Noise()), latency_shape=(1, 3, 16, 16)), threads=1)
    same = SuiteRun(suite(Noise()), threads=1)
    for gate in ("accuracy", "size", "coverage"):
        assert run.measure(gate, qconfig) == same.measure(gate, qconfig)
    assert run.measure("latency", qconfig)
    assert len(calls["export"]) == 1 + 3, "int8 for images, and again with fp32 for what is timed"
    (job,) = watch.jobs
    assert job.shape == (1, 3, 16, 16)
    for path in job.models.values():
        (given,) = onnx.load(str(path)).graph.input
        assert [d.dim_value for d in given.type.tensor_type.shape.dim][1:] == [3, 16, 16]
    x = torch.rand(2, 3, 8, 8)
    assert RUNTIMES[runtime].load(run.save(qconfig, tmp_path), 1).run(x.numpy()).shape == (2, 10)
