"""A suite run from end to end, on the tiny suite: header, table, record, JUnit properties."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from plugin.project import NO_LATENCY, Project, output
from pytest_ptq.store.history import list_records, read_record


def test_all_gates_of_all_qconfigs_pass(project: Project) -> None:
    result = project.run()
    result.assert_outcomes(passed=8)
    assert result.ret == 0


def test_header_names_suite_data_machine_and_baseline(project: Project) -> None:
    lines = project.gates("--ptq-threads", "1").stdout
    lines.fnmatch_lines(
        ["ptq: suite=tiny data=embedded engine=x86/onednn isa=* threads=1 baseline=baselines/tiny.json *"]
    )


def test_header_says_that_the_baseline_is_missing(project: Project) -> None:
    project.baseline.unlink()
    result = project.run("--collect-only")
    result.stdout.fnmatch_lines(["ptq: suite=tiny *baseline=baselines/tiny.json (missing)"])


def test_the_table_has_a_row_for_each_qconfig_failing_first(project: Project) -> None:
    head, tail = project.baseline.read_text(encoding="utf-8").split('"minmax"')
    tail = tail.replace('"accuracy_drop_pp": 100.0', '"accuracy_drop_pp": -50.0')
    project.baseline.write_text(f'{head}"minmax"{tail}', encoding="utf-8")
    result = project.run("--ptq-latency", "off")
    result.assert_outcomes(passed=5, failed=1)
    rows = [line.split()[0] for line in result.stdout.lines if line.startswith(("x86 ", "minmax "))]
    assert rows == ["minmax", "x86"]
    result.stdout.fnmatch_lines(["*= ptq =*", "qconfig *verdict*", "minmax *FAIL*"])


def test_the_run_record_holds_everything(project: Project) -> None:
    project.run("--ptq-qconfig", "x86")
    (path,) = list_records(project.path / ".ptq" / "history")
    record = read_record(path)
    (result,) = record.results
    assert (result.suite, result.data, result.qconfig) == ("tiny", "embedded", "x86")
    assert {"accuracy_drop_pp", "size_reduction_x", "latency_ratio", "int8_macs_percent", "flips_percent"} <= set(
        result.measurements
    )
    assert {j.verdict.name for j in result.judgements.values()} == {"PASS"}
    assert record.machine["key"]
    assert "torch" in record.versions
    assert f"run record: {path}"


def test_measurements_are_junit_properties(project: Project) -> None:
    project.gates("--junitxml=junit.xml")
    cases = {case.get("name"): case for case in ET.parse(project.path / "junit.xml").iter("testcase")}
    found = {p.get("name"): p.get("value") for p in cases["test_accuracy[x86]"].iter("property")}
    assert float(found["accuracy_drop_pp_limit"]) == 100.0
    assert {"accuracy_drop_pp", "accuracy_drop_pp_low", "sqnr_db"} <= found.keys()
    assert found["ptq_verdict"] == "pass"


def test_a_history_folder_of_choice(project: Project) -> None:
    project.gates("--ptq-history", "elsewhere/deep")
    assert len(list_records(project.path / "elsewhere" / "deep")) == 1
    assert not (project.path / ".ptq").exists()


def test_an_unwritable_history_folder_is_told_and_loses_nothing(project: Project) -> None:
    (project.path / "file").write_text("", encoding="utf-8")
    result = project.gates("--ptq-history", "file/history")
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["x86 *pass*", "ERROR: store: *file/history: the run record cannot be written*"])
    assert "Traceback" not in output(result)


def test_the_judged_models_are_saved(project: Project) -> None:
    project.run("--ptq-metrics", "size", "--ptq-save", "out")
    assert sorted(path.name for path in (project.path / "out").iterdir()) == [
        "tiny_minmax.safetensors",
        "tiny_x86.safetensors",
    ]


def test_the_model_is_built_and_quantized_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_ptq import sources
    from pytest_ptq.engine import pipeline

    calls: list[str] = []

    def counted(module: object, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kwargs: (calls.append(name), function(*args, **kwargs))[1])

    counted(pipeline, "convert")
    counted(pipeline, "calibrate")
    counted(sources, "build_model")
    project.run("--ptq-latency", "off").assert_outcomes(passed=6)
    assert sorted(calls) == ["build_model", "calibrate", "convert", "convert"]


def test_an_interrupt_writes_nothing(project: Project) -> None:
    (project.path / "conftest.py").write_text(
        "def pytest_runtest_setup(item):\n    if 'coverage' in item.name: raise KeyboardInterrupt\n", encoding="utf-8"
    )
    before = project.baseline.read_text(encoding="utf-8")
    result = project.pytester.runpytest_inprocess(
        "--ptq-suite=tiny", f"--ptq-metrics={NO_LATENCY}", "--ptq-update-baseline=all", no_reraise_ctrlc=True
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["x86 *pass*"])
    assert project.baseline.read_text(encoding="utf-8") == before
    assert not (project.path / ".ptq").exists()
