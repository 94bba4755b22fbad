"""SuiteRun where one runtime cannot run a model, and the others go on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
import pytest
from in_runtimes import Stopwatch, in_each, stopwatch
from small_run import Noise, suite

from pytest_ptq.engine.export import export_onnx
from pytest_ptq.errors import ExportError, InferenceError, InstallationError
from pytest_ptq.qconfig import MINMAX, X86, in_runtime
from pytest_ptq.runner import SuiteRun


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    return stopwatch(monkeypatch)


def test_a_qconfig_that_a_runtime_refuses_leaves_the_others_alone(
    watch: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(model: Any, path: Path, example: Any, **options: Any) -> Path:
        if model.stage == "converted" and model.qconfig.name == "minmax":
            tried.append(options["runtime"])
            raise ExportError("Odd has no form in ONNX", place="layer 3", remedy="Keep it in fp32 (fp32_layers).")
        return export_onnx(model, path, example, **options)

    monkeypatch.setattr("pytest_ptq.engine.export.export_onnx", refuse)
    run = SuiteRun(suite(Noise()), threads=1)
    run.timed_together = in_each(X86, MINMAX)
    good, bad = in_runtime(X86, "openvino"), in_runtime(MINMAX, "openvino")
    assert run.measure("latency", good)
    for gate in ("accuracy", "size", "coverage", "latency"):
        with pytest.raises(ExportError, match="layer 3: Odd has no form in ONNX"):
            run.measure(gate, bad)
    assert tried == ["openvino"], "it is tried once"
    assert run.measure("latency", MINMAX), "torch goes on"


def test_a_file_that_a_runtime_cannot_load_fails_its_own_gates_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(model: Any, path: Path, example: Any, **options: Any) -> Path:
        export_onnx(model, path, example, **options)
        if options["runtime"] == "onnxruntime":
            file = onnx.load(str(path))
            file.graph.node[-1].op_type = "Frobnicate"
            onnx.save(file, str(path))
        return path

    monkeypatch.setattr("pytest_ptq.engine.export.export_onnx", spoil)
    run = SuiteRun(suite(Noise()))
    with pytest.raises(InferenceError, match=r"ONNX Runtime cannot load the model .it stops at Frobnicate node"):
        run.measure("accuracy", in_runtime(X86, "onnxruntime"))
    assert run.measure("accuracy", in_runtime(X86, "openvino"))
    assert run.measure("accuracy", X86)


def test_a_missing_package_is_one_sentence_and_torch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(package: str) -> str:
        if package == "openvino":
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr("pytest_ptq.runtimes.interface.version", found)
    run = SuiteRun(suite(Noise()))
    with pytest.raises(InstallationError, match=r"Run: pip install 'pytest-ptq\[openvino\]'"):
        run.measure("coverage", in_runtime(X86, "openvino"))
    assert run.measure("coverage", X86)
