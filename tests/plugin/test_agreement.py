"""The gate on agreement: asked of models outside torch, with limits that bind, and the layer named where it fails."""

from __future__ import annotations

import json

import pytest

from plugin.project import LIMITS, Project, output

RUNTIME = "--ptq-runtime=torch,onnxruntime"
WRONG = """
import onnx
import pytest
from onnx import numpy_helper
from pytest_ptq import engine
from pytest_ptq.engine import export as package

export = package.export_onnx

def wrong(model, path, *args, **more):
    written = export(model, path, *args, **more)
    proto = onnx.load(str(written))
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and f".{node.input[0]}".endswith(".3.weight"):
            scale = stored[node.input[1]]
            scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 1.5, scale.name))
    onnx.save(proto, str(written))
    return written

@pytest.fixture(autouse=True)
def _wrong(monkeypatch):
    monkeypatch.setattr(package, "export_onnx", wrong)
"""


def limits(project: Project, **agreement: float) -> None:
    names = {"x86": LIMITS, "x86-onnxruntime": {**LIMITS, **agreement}}
    tree = {"schema": 2, "suite": "tiny", "data": {"embedded": {"limits": names}}}
    project.baseline.write_text(json.dumps(tree, indent=2), encoding="utf-8")


def test_it_is_asked_outside_torch_only(project: Project) -> None:
    result = project.run(RUNTIME, "--ptq-qconfig", "x86", "--collect-only", "-q")
    names = [line.split("::")[1] for line in result.stdout.lines if "::" in line]
    assert "test_agreement[x86-onnxruntime]" in names
    assert "test_agreement[x86]" not in names
    assert "test_agreement" not in output(project.run("--collect-only", "-q"))


def test_nothing_is_asked_where_everything_runs_in_torch(project: Project) -> None:
    result = project.run("--ptq-metrics", "agreement")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--ptq-metrics agreement has nothing to ask of models that run in torch" in output(result)


def test_default_limits_are_written_and_kept(project: Project) -> None:
    result = project.run(RUNTIME, "--ptq-metrics", "agreement", "--ptq-qconfig", "x86", "--ptq-update-baseline", "new")
    result.assert_outcomes(passed=1)
    tree = json.loads(project.baseline.read_text(encoding="utf-8"))["data"]["embedded"]
    assert tree["limits"]["x86-onnxruntime"]["agreement_steps"] == 50.0
    assert tree["limits"]["x86-onnxruntime"]["agreement_flips_percent"] == 3.0
    (recorded,) = tree["recorded"].values()
    assert recorded["x86-onnxruntime"]["agreement_flips_percent"]["samples"] == 64


def test_a_missing_limit_is_no_pass(project: Project) -> None:
    limits(project, agreement_steps=25.0)
    result = project.run(RUNTIME, "--ptq-metrics", "agreement", "--ptq-qconfig", "x86")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no limit is set for flips against torch (agreement_flips_percent)*"])


def test_a_runtime_that_answers_otherwise_fails_and_its_layer_is_named(project: Project) -> None:
    (project.path / "conftest.py").write_text(WRONG, encoding="utf-8")
    limits(project, agreement_steps=3.0, agreement_flips_percent=100.0)
    result = project.run(RUNTIME, "--ptq-metrics", "agreement", "--ptq-qconfig", "x86")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "agreement of tiny?x86-onnxruntime? on embedded data: FAIL",
            "*limit*at most 3.00 steps, from baselines/tiny.json:*",
            "*they part*at 3 (conv2d): * integers differ by up to * steps*",
        ]
    )
    (record,) = project.records()
    (entry,) = [r for r in record["results"] if r["qconfig"] == "x86-onnxruntime"]
    details = entry["measurements"]["agreement_steps"]["details"]
    assert (details["parting_parts_at"], details["parting_kind"]) == ("3", "conv2d")


def test_a_limit_on_what_runs_in_torch_would_hold_nothing(project: Project) -> None:
    result = project.tests(
        """
import pytest
@pytest.mark.ptq(suite="tiny", qconfigs=["x86"], max_agreement_steps=5)
def test_it(ptq_check): ptq_check()
"""
    )
    result.assert_outcomes(failed=1)
    assert "agreement is asked of models that run outside torch, and x86 does not" in result.stdout.str()
