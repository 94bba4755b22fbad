"""Failures that are expected, with a reason: from the baseline file and from the marker, and strictly."""

from __future__ import annotations

import json

import pytest

from plugin.project import Project, output
from plugin.test_own_model import MODEL

BROKEN = 99.0
"""A size reduction that nothing reaches."""


def mark(project: Project, reason: str = "the header is large", key: str = "size_reduction_x", **limits: float) -> None:
    project.limits(**limits)
    tree = json.loads(project.baseline.read_text(encoding="utf-8"))
    tree["data"]["embedded"]["xfail"] = {"x86": {key: reason}}
    project.baseline.write_text(json.dumps(tree, indent=2), encoding="utf-8")


def size(project: Project, *args: str) -> pytest.RunResult:
    return project.run("--ptq-metrics", "size", "--ptq-qconfig", "x86", *args)


def test_an_expected_failure_is_an_xfail(project: Project) -> None:
    mark(project, size_reduction_x=BROKEN)
    result = size(project, "-rx", "--junitxml", "junit.xml")
    result.assert_outcomes(xfailed=1)
    assert result.ret == pytest.ExitCode.OK
    line = 1 + project.baseline.read_text(encoding="utf-8").partition('"xfail"')[0].count("\n") + 2
    said = f"expected to fail since the header is large (baselines/tiny.json:{line}): size reduction of *breaks*"
    result.stdout.fnmatch_lines(["x86 *xfail", "*size*", f"tiny?x86?: {said}"])
    result.stdout.fnmatch_lines(["XFAIL suites/tiny.py::test_size?x86? - *the header is large*"])
    ((found,),) = [record["results"] for record in project.records()]
    assert found["judgements"]["size_reduction_x"]["verdict"] == "XFAIL"
    assert "the header is large" in found["judgements"]["size_reduction_x"]["reason"]
    xml = (project.path / "junit.xml").read_text(encoding="utf-8")
    assert 'name="ptq_verdict" value="xfail"' in xml
    assert "<skipped" in xml


def test_an_expected_failure_that_passes_is_a_failure(project: Project) -> None:
    mark(project)
    result = size(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "size of tiny?x86? on embedded data: FAIL",
            "  expected to fail since the header is large, and passes: take the mark out at baselines/tiny.json:*",
            "*accept *take the mark out*",
        ]
    )
    assert "--ptq-update-baseline" not in result.stdout.str().partition("accept")[2].partition("\n")[0]


def test_an_error_stays_an_error(project: Project) -> None:
    mark(project, size_reduction_x=BROKEN)
    project.edit_suite("return list(self.images[:CALIBRATION].split(16))", "return []")
    result = size(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["x86 *ERROR*"])


def test_a_missing_limit_stays_a_failure(project: Project) -> None:
    mark(project)
    tree = json.loads(project.baseline.read_text(encoding="utf-8"))
    del tree["data"]["embedded"]["limits"]["x86"]["size_reduction_x"]
    project.baseline.write_text(json.dumps(tree), encoding="utf-8")
    result = size(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no limit is set for size reduction*", "x86 *no baseline*"])


def test_another_failure_is_not_excused(project: Project) -> None:
    mark(project, size_reduction_x=BROKEN, size_int8_bytes=1.0)
    result = size(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*size int8 of * breaks the limit*", "x86 *FAIL*"])


def test_a_mark_on_what_nothing_judges_is_an_error(project: Project) -> None:
    mark(project, key="top5_drop_pp")
    result = project.run("--ptq-metrics", "accuracy", "--ptq-qconfig", "x86")
    result.assert_outcomes(failed=1)
    assert "top5_drop_pp is expected to fail, and nothing judges it. Set a limit on it" in result.stdout.str()


def own(project: Project, marker: str) -> pytest.RunResult:
    return project.tests(
        MODEL
        + f"""
@pytest.mark.ptq({marker})
def test_mine(ptq_check, model, loader):
    ptq_check(model, calibration=batches, evaluation=loader)
"""
    )


@pytest.mark.parametrize("name", ["size", "size_reduction_x"])
@pytest.mark.parametrize(("limit", "outcome"), [(99, "xfailed"), (0.01, "failed")])
def test_the_marker_expects_by_gate_or_by_metric(project: Project, name: str, limit: float, outcome: str) -> None:
    result = own(project, f"min_size_reduction={limit}, min_int8_macs=1, xfail={{{name!r}: 'known since March.'}}")
    result.assert_outcomes(**{outcome: 1})
    assert "expected to fail since known since March" in result.stdout.str()


def test_a_failure_beside_an_expected_one_fails(project: Project) -> None:
    own(project, "min_size_reduction=99, min_int8_macs=101, xfail={'size': 'known'}").assert_outcomes(failed=1)


def test_the_marker_wins_over_the_file(project: Project) -> None:
    mark(project, "from the file", size_reduction_x=BROKEN)
    test = """
import pytest
@pytest.mark.ptq(suite="tiny", qconfigs=["x86"], xfail={"size": "from the marker"})
def test_it(ptq_check): ptq_check("size")
"""
    result = project.tests(test, "-rx")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*since from the marker (test_own.py::test_it?x86?: @pytest.mark.ptq)*"])


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        ("xfail={'size': ''}", "xfail['size'] gives no reason"),
        ("xfail={'size': '  '}", "xfail['size'] gives no reason"),
        ("xfail={'size': True}", "xfail['size'] gives no reason"),
        ("xfail='size'", "xfail='size' is no dict"),
        ("xfail={'sise': 'x'}", "unknown gate or metric 'sise'. Did you mean 'size'?"),
    ],
)
def test_a_mark_that_cannot_be(project: Project, marker: str, sentence: str) -> None:
    result = project.tests(f"import pytest\n@pytest.mark.ptq({marker})\ndef test_it(ptq_check): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in result.stderr.str()
    assert "Traceback" not in output(result)


def test_a_mark_on_a_gate_that_the_test_does_not_judge(project: Project) -> None:
    result = own(project, "min_int8_macs=1, xfail={'size': 'known'}")
    result.assert_outcomes(failed=1)
    assert "xfail names size, which this test does not judge. Limit it as well (min_size_reduction" in output(result)


def test_workers_tell_the_controller(project: Project) -> None:
    mark(project, size_reduction_x=BROKEN)
    result = size(project, "-n", "1")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["x86 *xfail"])
