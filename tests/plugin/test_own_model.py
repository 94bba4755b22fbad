"""A user's own tests: the marker, `ptq_check` on a model of theirs, and the fixtures."""

from __future__ import annotations

import pytest

from plugin.project import Project, machine_key, output

MODEL = """
import pytest
import torch
from torch import nn

torch.manual_seed(0)
IMAGES = torch.rand(48, 3, 8, 8)

def batches():
    return [IMAGES[:16]]

@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10)).eval()

@pytest.fixture
def loader(model):
    with torch.no_grad():
        return [(IMAGES[16:], model(IMAGES[16:]).argmax(1))]
"""


def test_every_qconfig_and_every_limit(project: Project) -> None:
    result = project.tests(
        MODEL
        + """
@pytest.mark.ptq(qconfigs=["x86", "default"], max_accuracy_drop=100, min_size_reduction=0.1, min_int8_macs=50)
def test_my_model(ptq_check, model, loader):
    found = ptq_check(model, calibration=batches, evaluation=loader)
    assert list(found) == ["accuracy", "size", "coverage"]
    assert model.training is False
""",
        "-v",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["test_own.py::test_my_model?x86? PASSED*", "test_own.py::test_my_model?minmax? PASSED*"]
    )
    result.stdout.fnmatch_lines(["*= ptq =*", "x86 *pass*", "minmax *pass*", "run record: *"])
    (record,) = project.records()
    assert {r["data"] for r in record["results"]} == {"own"}


def test_all_broken_limits_are_told_at_once(project: Project) -> None:
    result = project.tests(
        MODEL
        + """
@pytest.mark.ptq(max_accuracy_drop=-60, min_size_reduction=99)
def test_my_model(ptq_check, model, loader):
    ptq_check(model, calibration=batches, evaluation=loader)
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "accuracy of test_own.test_my_model?x86? on own data: FAIL",
            "*limit*test_own.py::test_my_model?x86?: @pytest.mark.ptq",
            "*worst layers*",
            "size of test_own.test_my_model*: FAIL",
        ]
    )


def test_latency_of_ones_own(project: Project) -> None:
    project.tests(
        MODEL
        + """
@pytest.mark.ptq(max_latency_ratio=1000)
def test_my_model(ptq_check, model):
    found = ptq_check(model, calibration=batches, latency_shape=(2, 3, 8, 8))
    assert found["latency"].measurement.samples >= 30
"""
    ).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "call", "sentence"),
    [
        ("", "model, calibration=batches", "no limit is given"),
        ("max_accuracy_drop=1", "model, calibration=batches", "accuracy needs labelled data"),
        ("max_accuracy_drop=1", "model", "ptq_check got no calibration data"),
        ("max_accuracy_drop=1", "'accuracy'", "ptq_check needs a model here"),
        ("min_int8_macs=1", "model, calibration=iter(batches())", "gives its batches only once"),
        ("min_int8_macs=1", "model, calibration=[]", "batches"),
        ("min_int8_macs=1", "nn.Identity().eval(), calibration=batches", "quantize"),
        ("min_int8_macs=1", "model.train(), calibration=batches", "the model is in training mode"),
    ],
)
def test_wrong_calls(project: Project, marker: str, call: str, sentence: str) -> None:
    source = f"\n@pytest.mark.ptq({marker})\ndef test_it(ptq_check, model): ptq_check({call})\n"
    result = project.tests(MODEL + source)
    result.assert_outcomes(failed=1)
    assert sentence in result.stdout.str()
    assert "Traceback" not in output(result)


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        (
            "max_acuracy_drop=1",
            "unknown keyword of @pytest.mark.ptq 'max_acuracy_drop'. Did you mean 'max_accuracy_drop'?",
        ),
        ("1.0", "1.0 stands without a keyword"),
        ("max_accuracy_drop='1'", "max_accuracy_drop='1' is not a number"),
        ("max_accuracy_drop=float('nan')", "max_accuracy_drop=nan is not a number"),
        ("max_accuracy_drop=True", "max_accuracy_drop=True is not a number"),
        ("qconfigs=['x68']", "unknown qconfig 'x68'. Did you mean 'x86'?"),
        ("qconfigs=[]", "qconfigs=[] names none"),
        ("qconfigs=[1]", "qconfigs holds 1"),
        ("suite='tinny'", "unknown suite 'tinny'. Did you mean 'tiny'?"),
        ("suite=3", "suite=3 is not a name"),
        ("model='m'", "comes without data"),
        ("model='m', data='d'", "unknown model 'm'"),
    ],
)
def test_a_wrong_marker_is_a_usage_error(project: Project, marker: str, sentence: str) -> None:
    result = project.tests(f"import pytest\n@pytest.mark.ptq({marker})\ndef test_it(ptq_check): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in result.stderr.str()
    assert "Traceback" not in output(result)


def test_a_wrong_marker_is_found_where_no_fixture_reads_it(project: Project) -> None:
    result = project.tests("import pytest\n@pytest.mark.ptq(limit=1)\ndef test_it(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "unknown keyword of @pytest.mark.ptq 'limit'" in result.stderr.str()


def test_fixtures_of_a_suite(project: Project) -> None:
    result = project.tests(
        """
import pytest
import torch

pytestmark = pytest.mark.ptq(suite="tiny")

def test_model(ptq_suite, ptq_model, ptq_calibration_data, ptq_eval_data):
    assert ptq_suite.name == "tiny"
    assert not ptq_model.training
    assert sum(len(batch) for batch in ptq_calibration_data) == 32
    images, labels = next(iter(ptq_eval_data))
    assert len(images) == len(labels) == 16

def test_quantized(ptq_qconfig, ptq_quantized, ptq_eval_data):
    assert ptq_qconfig.name in ("x86", "minmax")
    images, _ = next(iter(ptq_eval_data))
    assert ptq_quantized(images).shape == (16, 10)

def test_check(ptq_check):
    ptq_check("size")

@pytest.mark.ptq(min_size_reduction=99)
def test_the_marker_wins_over_the_baseline(ptq_check):
    ptq_check()

def test_machine(ptq_machine):
    assert "/" in ptq_machine.key
""",
        "-v",
    )
    result.assert_outcomes(passed=6, failed=2)
    result.stdout.fnmatch_lines(["*limit*at least 99.00 x, from test_own.py::test_the_marker_wins*"])
    result.stdout.fnmatch_lines(["*test_quantized?minmax? PASSED*"])


def test_tests_beside_a_suite_share_its_model(project: Project) -> None:
    project.pytester.makepyfile(
        test_own="""
def test_same(ptq_quantized, ptq_qconfig, request):
    request.config.stash  # the gates' own
    assert ptq_qconfig.name == "x86"
"""
    )
    project.gates("test_own.py").assert_outcomes(passed=4)


def test_several_suites_give_pairs(project: Project) -> None:
    (project.path / "suites" / "second.py").write_text(
        (project.path / "suites" / "tiny.py").read_text(encoding="utf-8").replace('name="tiny"', 'name="second"'),
        encoding="utf-8",
    )
    project.pytester.makepyfile(
        test_own="""
def test_pair(ptq_suite, ptq_qconfig): pass
def test_suite(ptq_suite): pass
"""
    )
    result = project.pytester.runpytest_inprocess("--ptq-suite=tiny,second", "--collect-only", "-q", "test_own.py")
    assert [line for line in result.stdout.lines if line.startswith("test_own")] == [
        "test_own.py::test_pair[tiny-x86]",
        "test_own.py::test_pair[tiny-minmax]",
        "test_own.py::test_pair[second-x86]",
        "test_own.py::test_pair[second-minmax]",
        "test_own.py::test_suite[tiny]",
        "test_own.py::test_suite[second]",
    ]


@pytest.mark.parametrize("fixture", ["ptq_suite", "ptq_model", "ptq_qconfig", "ptq_check"])
def test_without_a_suite_the_fixtures_say_so(project: Project, fixture: str) -> None:
    result = project.tests(f"def test_it({fixture}): pass\n")
    result.assert_outcomes(errors=1)
    assert "Run with --ptq-suite NAME" in result.stdout.str()
    assert "Traceback" not in output(result)


def test_hooks_add_to_the_tables(project: Project) -> None:
    (project.path / "conftest.py").write_text(
        """
import importlib.util
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent / "suites"))
import tiny
from pytest_ptq import QConfig

def pytest_ptq_register_datasets(config):
    return {"more": tiny.Noise()}

def pytest_ptq_register_models(config):
    return {"small": lambda: tiny.Tiny().build()}

def pytest_ptq_register_qconfigs(config):
    return {"mine": QConfig("mine", activation_observer="minmax")}
""",
        encoding="utf-8",
    )
    project.edit_suite('variants={"emb', 'qconfigs=("mine",), variants={"emb')
    result = project.run("--ptq-data", "more", "--ptq-metrics", "size", "--ptq-update-baseline", "new")
    result.stdout.fnmatch_lines(["ptq: suite=tiny data=more *", "size of tiny?mine? on more data: FAIL"])
    result = project.tests(
        """
import pytest
@pytest.mark.ptq(model="small", data="more", qconfigs=["mine"], min_size_reduction=1)
def test_registered(ptq_check, ptq_model): ptq_check()
"""
    )
    result.assert_outcomes(passed=1)
    assert machine_key()
