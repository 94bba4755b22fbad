"""Models that are int8 already: in a suite beside its qconfigs, and in a test of a user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plugin.project import LIMITS, Project, output
from plugin.tiny_suite import Noise, Tiny
from pytest_ptq.engine import export_onnx, quantize

GATES = "accuracy,size,coverage"


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    data = Noise().load()
    path = tmp_path_factory.mktemp("vendor") / "vendor.onnx"
    export_onnx(quantize(Tiny().build(), data.calibration()), path, data.images[:1])
    return path.read_bytes()


def bring(project: Project, int8: str) -> None:
    """Let the suite bring models, with limits that anything keeps."""
    project.edit_suite("from pytest_ptq import Suite, Variant", "from pytest_ptq import OnnxFile, Suite, Variant")
    project.edit_suite("    latency_shape=(1, 3, 8, 8),\n", f"    latency_shape=(1, 3, 8, 8),\n    int8={int8},\n")
    own = {key: value for key, value in LIMITS.items() if key != "int8_macs_percent"}
    names = {"x86": LIMITS, "minmax": LIMITS, "vendor": {**own, "int8_kernels_percent": 90.0}}
    tree = {"schema": 2, "suite": "tiny", "data": {"embedded": {"limits": names}}}
    project.baseline.write_text(json.dumps(tree), encoding="utf-8")


def test_it_stands_beside_the_qconfigs(project: Project, vendor: bytes) -> None:
    (project.path / "suites" / "vendor.onnx").write_bytes(vendor)
    bring(project, "{'vendor': OnnxFile('vendor.onnx')}")
    result = project.run("--ptq-metrics", GATES, "--ptq-qconfig", "vendor", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["*test_accuracy?vendor? PASSED*", "*test_int8_coverage?vendor? PASSED*", "vendor *pass*"]
    )
    (record,) = project.records()
    (entry,) = record["results"]
    assert (entry["qconfig"], entry["reduce_range"]) == ("vendor", None)
    assert entry["measurements"]["int8_kernels_percent"]["value"] == 100.0
    assert entry["measurements"]["size_int8_bytes"]["value"] == len(vendor)


def test_its_latency_is_held_against_fp32_in_the_same_runtime(project: Project, vendor: bytes) -> None:
    (project.path / "suites" / "vendor.onnx").write_bytes(vendor)
    bring(project, "{'vendor': OnnxFile('vendor.onnx')}")
    result = project.run("--ptq-metrics", "latency", "--ptq-qconfig", "vendor")
    result.assert_outcomes(passed=1)
    (record,) = project.records()
    (entry,) = record["results"]
    assert entry["runtime"] == "onnxruntime"
    assert entry["measurements"]["latency_ratio"]["details"]["processes"] > 1


def test_a_module_is_timed_in_this_process_and_left_open(project: Project) -> None:
    bring(project, "{'vendor': lambda: Tiny().build()}")
    project.run("--ptq-metrics", "latency", "--ptq-qconfig", "vendor", "--ptq-strict").assert_outcomes(failed=1)
    (record,) = project.records()
    (judged,) = record["results"][0]["judgements"].values()
    assert judged["verdict"] == "INCONCLUSIVE"
    assert "it was timed in one process only, because it cannot be stored" in judged["reason"]


def test_everything_is_collected_and_nothing_is_imported(project: Project) -> None:
    bring(project, "{'vendor': OnnxFile('nowhere.onnx')}")
    result = project.run("--collect-only", "-q")
    names = [line.split("::")[1] for line in result.stdout.lines if "::" in line]
    assert "test_latency[vendor]" in names
    assert "test_agreement[vendor]" not in names
    assert "test_accuracy[x86]" in names


def test_a_broken_limit_fails_it(project: Project, vendor: bytes) -> None:
    (project.path / "suites" / "vendor.onnx").write_bytes(vendor)
    bring(project, "{'vendor': OnnxFile('vendor.onnx')}")
    text = project.baseline.read_text(encoding="utf-8").replace('"size_reduction_x": 0.01', '"size_reduction_x": 99')
    project.baseline.write_text(text, encoding="utf-8")
    result = project.run("--ptq-metrics", "size", "--ptq-qconfig", "vendor")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["size of tiny?vendor? on embedded data: FAIL"])


def test_a_file_that_is_not_there_is_one_sentence(project: Project) -> None:
    bring(project, "{'vendor': OnnxFile('nowhere.onnx')}")
    result = project.run("--ptq-metrics", "accuracy", "--ptq-qconfig", "vendor")
    result.assert_outcomes(failed=1)
    expected = f"suite tiny, int8 vendor: {project.path / 'suites' / 'nowhere.onnx'}: there is no such file"
    assert expected in result.stdout.str()
    assert "Traceback" not in output(result)


def test_what_nobody_can_know_is_skipped_and_never_passes_a_limit(project: Project) -> None:
    bring(project, "{'vendor': lambda: Tiny().build()}")
    result = project.run("--ptq-metrics", "coverage", "--ptq-qconfig", "vendor")
    result.assert_outcomes(failed=1)
    assert "how much of vendor runs in int8 is not known" in result.stdout.str()
    text = project.baseline.read_text(encoding="utf-8").replace(', "int8_kernels_percent": 90.0', "")
    project.baseline.write_text(text, encoding="utf-8")
    result = project.run("--ptq-metrics", "coverage,size", "--ptq-qconfig", "vendor", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*how much of vendor runs in int8 is not known: a module does not*"])
    project.run("--ptq-metrics", "coverage", "--ptq-qconfig", "vendor", "--ptq-strict").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("int8", "sentence"),
    [
        ("{'x86': OnnxFile('m.onnx')}", "'x86' names a qconfig and an int8 model"),
        ("{'vendor': 'm.onnx'}", "int8 'vendor' is a str, not an int8 model"),
        ("{'vendor': OnnxFile('m.bin')}", "m.bin does not look like an ONNX model"),
    ],
)
def test_what_cannot_be_declared_is_a_usage_error(project: Project, int8: str, sentence: str) -> None:
    bring(project, int8)
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in output(result)
    assert "Traceback" not in output(result)


OWN = """
import pytest
import torch
from plugin.tiny_suite import Noise, Tiny

DATA = Noise().load()
MODEL = Tiny().build()
"""


def test_a_test_of_ones_own(project: Project, vendor: bytes) -> None:
    Path(project.path / "vendor.onnx").write_bytes(vendor)
    result = project.tests(
        OWN
        + """
@pytest.mark.ptq(max_accuracy_drop=5, min_size_reduction=0.1, limits={"int8_kernels_percent": 90})
def test_file(ptq_check):
    found = ptq_check(MODEL, int8="vendor.onnx", evaluation=DATA.evaluation)
    assert list(found) == ["accuracy", "size", "coverage"]

@pytest.mark.ptq(max_accuracy_drop=0)
def test_module(ptq_check):
    ptq_check(MODEL, int8=Tiny().build(), evaluation=DATA.evaluation)

@pytest.mark.ptq(min_int8_macs=90)
def test_macs(ptq_check):
    ptq_check(MODEL, int8="vendor.onnx", evaluation=DATA.evaluation)

@pytest.mark.ptq(max_accuracy_drop=0, qconfigs=["x86"])
def test_both(ptq_check):
    ptq_check(MODEL, int8=Tiny().build(), evaluation=DATA.evaluation)

@pytest.mark.ptq(max_accuracy_drop=0)
def test_strange(ptq_check):
    ptq_check(MODEL, int8="vendor.txt", evaluation=DATA.evaluation)
"""
    )
    result.assert_outcomes(passed=2, failed=3)
    text = result.stdout.str()
    assert "int8_macs_percent), which is not measured here" in text
    assert "qconfigs are given, and a model that is int8 already" in text
    assert "'vendor.txt' is no file with an int8 model" in text
    assert "Traceback" not in output(result)
