"""`--ptq-tune` as a person meets it."""

from __future__ import annotations

import json

import pytest

from plugin.project import Project, output
from pytest_ptq.metrics import METRICS, SQNR, Limit, Measurement
from pytest_ptq.plugin.tune import FileMemory, keeps


def test_a_qconfig_that_keeps_its_limits_is_left_as_it_is(project: Project) -> None:
    result = project.run("--ptq-tune", "--ptq-qconfig", "x86")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["--ptq-tune, tiny?x86?: keeps its limits as it is: accuracy drop*; 1 full evaluation (*"]
    )
    assert project.records() == [], "nothing was judged"


def test_the_fallback_is_printed_for_the_suite(project: Project) -> None:
    project.limits(sqnr_db=53.0)
    result = project.run("--ptq-tune", "--ptq-qconfig", "minmax")
    assert result.ret == 0, output(result)
    result.stdout.fnmatch_lines(
        [
            "--ptq-tune, tiny?minmax?: * of 3 layers in fp32 keep the limits: *",
            "  QConfig('minmax-tuned', *fp32_layers=(*",
        ]
    )
    (path,) = (project.path / ".ptq" / "tune").iterdir()
    tree = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(tree["noise_db"]) == ["0", "3", "8"]
    before = path.stat().st_mtime_ns
    again = project.run("--ptq-tune", "--ptq-qconfig", "minmax")
    assert path.stat().st_mtime_ns == before, "all of it was known"
    assert [line for line in again.outlines if "QConfig(" in line] == [
        line for line in result.outlines if "QConfig(" in line
    ]


def test_limits_that_nothing_keeps_fail(project: Project) -> None:
    project.limits(sqnr_db=199.0)
    result = project.run("--ptq-tune", "--ptq-qconfig", "x86")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*no fallback keeps the limits: *"])


def test_a_missing_limit_is_one_sentence(project: Project) -> None:
    project.baseline.unlink()
    result = project.run("--ptq-tune", "--ptq-qconfig", "x86")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in output(result)
    result.stdout.fnmatch_lines(["ERROR: *"])


def test_without_a_suite_there_is_nothing_to_tune(project: Project) -> None:
    result = project.tests("def test_nothing(): pass", "--ptq-tune")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--ptq-tune tunes the suites of --ptq-suite, and none is named"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"noise_db": {"a": "x"}, "evaluations": {}}', '{"noise_db": {}}'])
def test_a_damaged_memory_is_begun_anew(project: Project, text: str) -> None:
    path = project.path / "memory.json"
    path.write_text(text, encoding="utf-8")
    memory = FileMemory(path, METRICS)
    assert memory.noise("a") is None
    measured = {SQNR.key: Measurement(SQNR, 31.5, 30.0, 32.0, 64)}
    memory.remember_evaluation(("b", "a"), measured)
    memory.remember_noise("a", -12.25)
    again = FileMemory(path, METRICS)
    assert again.evaluation(("a", "b")) == measured
    assert again.noise("a") == -12.25


def test_a_limit_on_what_was_not_measured_is_not_kept() -> None:
    limits = {SQNR.key: Limit(SQNR, 30.0, "here")}
    assert keeps(limits, {SQNR.key: Measurement(SQNR, 31.0)})
    assert not keeps(limits, {SQNR.key: Measurement(SQNR, 29.0)})
    assert not keeps(limits, {})
