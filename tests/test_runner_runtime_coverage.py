"""What SuiteRun counts as int8 where a runtime runs the model: the runtime's own kernels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from in_runtimes import BOTH
from small_run import Noise, suite

from pytest_ptq.engine.export import export_onnx
from pytest_ptq.engine.export.layers_of_file import weighted_layers
from pytest_ptq.metrics import (
    INT8_KERNELS,
    INT8_MACS,
    NOT_INT8,
    QDQ_PAIRS,
)
from pytest_ptq.qconfig import X86, in_runtime
from pytest_ptq.runner import SuiteRun
from pytest_ptq.runtimes import Kernel, KernelCounts

FIRST, SECOND, LAST = 64 * 16 * 27, 16 * 32 * 16 * 9, 320
"""Multiply-accumulates of the small model's layers `0`, `3` and `7`."""


@BOTH
def test_coverage_counts_the_runtimes_kernels(runtime: str) -> None:
    found = SuiteRun(suite(Noise())).measure("coverage", in_runtime(X86, runtime))
    assert (found[INT8_MACS.key].value, found[INT8_KERNELS.key].value, found[QDQ_PAIRS.key].value) == (100.0, 3.0, 0.0)
    assert NOT_INT8 not in found[INT8_MACS.key].details


@BOTH
def test_a_layer_that_the_runtime_computes_in_float_does_not_count(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same model, but for the pair before its second convolution: the file promises what no kernel keeps."""

    def export_without(model: Any, path: Path, example: Any, **options: Any) -> Path:
        layers = weighted_layers(export_onnx(model, path, example, **options))
        file = onnx.load(str(path))
        (conv,) = [node for node in file.graph.node if layers.get(node.name) == "3"]
        made = {output: node for node in file.graph.node for output in node.output}
        # Reads the float that was rounded, and not what comes back from the integers.
        conv.input[0] = made[made[conv.input[0]].input[0]].input[0]
        onnx.save(file, str(path))
        return path

    monkeypatch.setattr("pytest_ptq.engine.export.export_onnx", export_without)
    run = SuiteRun(suite(Noise()))
    found = run.measure("coverage", in_runtime(X86, runtime))
    details = found[INT8_MACS.key].details
    assert str(details[NOT_INT8]).split(", ")[-1] == "3"
    # A runtime may leave the layer before it in float, too, whose rounding has no int8 reader any more.
    kept = {"3": FIRST + LAST, "0, 3": LAST}[str(details[NOT_INT8])]
    assert found[INT8_MACS.key].value == pytest.approx(100 * kept / (FIRST + SECOND + LAST))
    assert found[INT8_KERNELS.key].value == 3 - len(str(details[NOT_INT8]).split(", "))
    assert run.measure("coverage", X86)[INT8_MACS.key].value == 100.0


def test_layers_that_were_not_quantized_are_not_named_again() -> None:
    kept = replace(in_runtime(X86, "openvino"), fp32_layers=("3",))
    found = SuiteRun(suite(Noise(), (kept,))).measure("coverage", kept)
    assert found[INT8_MACS.key].value == pytest.approx(100 * (FIRST + LAST) / (FIRST + SECOND + LAST))
    assert NOT_INT8 not in found[INT8_MACS.key].details
    assert found[INT8_KERNELS.key].value == 2


def test_many_layers_are_listed_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ptq.runner.in_runtime.NAMED_LAYERS", 1)
    silent = KernelCounts((Kernel("", "Conv", False, True),))
    run = SuiteRun(suite(Noise()))
    monkeypatch.setattr(run.in_runtime("openvino"), "_kernels", lambda qconfig: silent)
    found = run.measure("coverage", in_runtime(X86, "openvino"))
    assert found[INT8_MACS.key].details[NOT_INT8] == "0 and 2 more"
    assert found[INT8_MACS.key].value == 0.0
