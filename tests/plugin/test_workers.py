"""Under pytest-xdist: one table from all workers, and no latency beside other work."""

from __future__ import annotations

import pytest

from plugin.project import Project, output


def test_results_of_workers_meet_on_the_controller(project: Project) -> None:
    result = project.gates("-n", "2", "--junitxml=junit.xml")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["ptq: suite=tiny *", "x86 *->*/ 100*pass*", "*(*x)*", "run record: *"])
    (record,) = project.records()
    assert {"accuracy_drop_pp", "size_reduction_x", "int8_macs_percent"} <= record["results"][0]["measurements"].keys()
    assert 'name="sqnr_db"' in (project.path / "junit.xml").read_text(encoding="utf-8")


def test_latency_is_refused_beside_others(project: Project) -> None:
    result = project.run("--ptq-metrics", "latency", "--ptq-qconfig", "x86", "-n", "2")
    result.assert_outcomes(failed=1)
    sentence = "latency is not measured beside other work. Run without -n or with --ptq-latency off."
    assert sentence in result.stdout.str()
    assert "Traceback" not in output(result)
    result.stdout.fnmatch_lines(["x86 *ERROR*"])


def test_a_suite_is_one_group(project: Project) -> None:
    project.pytester.makeconftest(
        "def pytest_collection_modifyitems(items):\n"
        "    assert {m.args for item in items for m in item.iter_markers('xdist_group')} == {('ptq-tiny',)}\n"
    )
    assert project.gates("--collect-only").ret == 0


def test_a_broken_suite_file_is_told_once(project: Project) -> None:
    (project.path / "suites" / "tiny.py").write_text("raise OSError('no luck')\n", encoding="utf-8")
    result = project.gates("-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("no luck") == 1
