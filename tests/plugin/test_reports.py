"""Reports that a run writes: HTML, Markdown, and GitHub's summary of a step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plugin.project import Project, output
from pytest_ptq.errors import StoreError
from pytest_ptq.plugin import report_files

MD = ("--ptq-report-md", "out/report.md")
HTML = ("--ptq-report-html", "out/report.html")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands in for the page, which has its own tests; collects the ids of the runs that it is given."""
    pytest.importorskip("pytest_ptq.report.html")
    given: list[list[str]] = []

    def made(records, **_):  # type: ignore[no-untyped-def]
        given.append([record.run_id for record in records])
        return "<!doctype html>a page"

    monkeypatch.setattr("pytest_ptq.report.html.html_report", made)
    return given


def read(project: Project, name: str) -> str:
    return (project.path / name).read_text(encoding="utf-8")


def test_markdown_of_a_pass_and_of_a_failure(project: Project) -> None:
    result = project.gates(*MD)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["run record: *", "report: *out/report.md"])
    assert read(project, "out/report.md").startswith("## pytest-ptq: pass\n\n**1 pass** ")
    project.limits(size_reduction_x=99.0)
    project.gates(*MD).assert_outcomes(passed=2, failed=1)
    text = read(project, "out/report.md")
    assert text.startswith("## pytest-ptq: FAIL\n")
    assert "| `tiny[x86]` | size reduction | **FAIL** |" in text
    assert "fails since this run; passed at " in text
    assert "baselines/tiny.json:" in text


def test_the_page_gets_the_history_and_this_run_last(project: Project, page: list[list[str]]) -> None:
    project.gates(*HTML)
    project.gates(*HTML)
    assert read(project, "out/report.html") == "<!doctype html>a page"
    first, second = (record["run_id"] for record in project.records())
    assert page == [[first], [first, second]]


def test_a_real_page(project: Project) -> None:
    pytest.importorskip("vl_convert")
    result = project.gates(*HTML)
    assert result.ret == 0, output(result)
    assert "tiny" in read(project, "out/report.html")


def test_ini_keys_are_meant_from_the_ini_file(project: Project, page: list[list[str]]) -> None:
    project.ini("ptq_report_md = r.md\nptq_report_html = r.html\nptq_json = r.json")
    project.gates()
    assert read(project, "r.md").startswith("## pytest-ptq: pass")
    assert read(project, "r.html")
    assert json.loads(read(project, "r.json"))["results"]


def test_a_history_that_could_not_be_written_does_not_take_the_run_out(project: Project, page: list[list[str]]) -> None:
    (project.path / "file").write_text("", encoding="utf-8")
    result = project.gates(*MD, *HTML, "--ptq-history=file/h")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = read(project, "out/report.md")
    assert text.startswith("## pytest-ptq: ERROR\n\n**1 pass**")
    assert "- **ERROR**: store: " in text
    assert len(page[0]) == 1


def test_a_damaged_record_is_told_and_left_out(project: Project, page: list[list[str]]) -> None:
    folder = project.path / ".ptq" / "history"
    folder.mkdir(parents=True)
    (folder / "20200101T000000.000000Z-0.json").write_text("{", encoding="utf-8")
    result = project.gates(*MD, *HTML)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["store: *20200101T000000.000000Z-0.json*"])
    assert len(page[0]) == 1


@pytest.mark.parametrize("option", ["md", "html"])
def test_a_report_that_cannot_be_written_is_one_sentence(project: Project, page: list[list[str]], option: str) -> None:
    (project.path / "file").write_text("", encoding="utf-8")
    result = project.gates(f"--ptq-report-{option}=file/r")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=3)
    (line,) = [line for line in result.stdout.lines if "the report cannot be written" in line]
    assert line.startswith("ERROR: store: ")
    assert line.endswith(f"Name another file with --ptq-report-{option}.")
    assert "Traceback" not in output(result)


def test_a_report_is_replaced_whole(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    target = project.path / "r.md"
    target.write_text("old", encoding="utf-8")

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_files, "write_text", full)
    result = project.gates("--ptq-report-md=r.md")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert target.read_text(encoding="utf-8") == "old"


def test_a_page_that_cannot_be_made_does_not_take_the_markdown_along(
    project: Project, page: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise StoreError("there is no run to report on")

    monkeypatch.setattr("pytest_ptq.report.html.html_report", broken)
    result = project.gates(*MD, *HTML)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert read(project, "out/report.md")
    result.stdout.fnmatch_lines(["ERROR: store: there is no run to report on"])


def test_a_missing_extra_is_told_before_anything_is_measured(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_files, "HTML_NEEDS", ("json", "no_such_package"))
    result = project.gates(*HTML)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--ptq-report-html needs no_such_package, not installed here. pip install 'pytest-ptq[report]'" in output(
        result
    )
    assert not project.records()
    assert project.gates(*MD).ret == 0


def test_the_summary_of_a_step_is_appended_to(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = project.path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    project.gates()
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n\n## pytest-ptq: pass\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "")
    project.gates()
    assert summary.read_text(encoding="utf-8") == text


def test_a_summary_that_cannot_be_written_fails_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "nowhere" / "s.md"))
    result = project.gates()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["the summary of this step cannot be written (*nowhere/s.md*)"])


def test_an_interrupted_run_writes_no_report(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "s.md"))
    project.edit_suite("def evaluation(self):", "def evaluation(self):\n        raise KeyboardInterrupt")
    result = project.pytester.runpytest_subprocess("--ptq-suite=tiny", "--ptq-metrics=size,accuracy", *MD)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert not (project.path / "out").exists()
    assert not (project.path / "s.md").exists()


def test_only_the_controller_writes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = project.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    project.gates("-n", "2", *MD).assert_outcomes(passed=3)
    assert summary.read_text(encoding="utf-8").count("## pytest-ptq") == 1
    assert read(project, "out/report.md").count("`tiny[x86]`") == 1
