"""Options and ini keys: precedence, and one sentence for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ptq.plugin.options import Annotations, LatencyMode, Settings, Update, read_settings


@pytest.fixture
def settings(pytester: pytest.Pytester):
    def read(*args: str, ini: str = "") -> Settings:
        pytester.makeini(f"[pytest]\n{ini}")
        return read_settings(pytester.parseconfig(*args))

    return read


def test_defaults(settings, pytester: pytest.Pytester) -> None:
    found = settings()
    assert found.suites == found.qconfigs == ()
    assert found.gates == ("accuracy", "size", "coverage", "agreement", "latency")
    assert found.history == pytester.path / ".ptq" / "history"
    assert (found.latency, found.update, found.strict, found.threads) == (LatencyMode.GATE, None, False, None)
    assert (found.data, found.weights, found.save, found.baseline_dir) == (None, None, None, None)
    assert (found.annotations, found.json) == (Annotations.AUTO, None)
    assert (found.report_html, found.report_md, found.runtimes) == (None, None, ())
    assert (found.budget_s, found.budget_default_s, found.isa) == (None, None, None)


def test_the_command_line_is_read(settings, pytester: pytest.Pytester) -> None:
    weights = pytester.makefile(".safetensors", w="")
    found = settings(
        "--ptq-suite=a, b,a", "--ptq-qconfig=x*", "--ptq-data=folder=/x=y", f"--ptq-weights={weights.name}",
        "--ptq-metrics=size,latency", "--ptq-threads=3", "--ptq-latency=report", "--ptq-update-baseline=failed",
        "--ptq-baseline-dir=b", "--ptq-history=/h", "--ptq-save=s", "--ptq-strict",
        "--ptq-annotations=github", "--ptq-json=run.json", "--ptq-budget=90.5",
        "--ptq-report-html=r.html", "--ptq-report-md=out/r.md",
    )  # fmt: skip
    assert found == Settings(
        suites=("a", "b"),
        qconfigs=("x*",),
        data="folder=/x=y",
        weights=weights,
        gates=("size", "latency"),
        threads=3,
        latency=LatencyMode.REPORT,
        update=Update.FAILED,
        baseline_dir=pytester.path / "b",
        history=Path("/h"),
        save=pytester.path / "s",
        strict=True,
        annotations=Annotations.GITHUB,
        json=pytester.path / "run.json",
        report_html=pytester.path / "r.html",
        report_md=pytester.path / "out" / "r.md",
        budget_s=90.5,
    )


def test_ini_keys_have_the_same_names(settings) -> None:
    found = settings(ini="ptq_suite = a,b\nptq_threads = 2\nptq_latency = off\nptq_metrics = size\nptq_strict = true")
    assert (found.suites, found.threads, found.latency) == (("a", "b"), 2, LatencyMode.OFF)
    assert (found.gates, found.strict) == (("size",), True)


def test_the_command_line_wins_over_the_ini_file(settings) -> None:
    found = settings("--ptq-threads=4", "--ptq-suite=b", ini="ptq_threads = 2\nptq_suite = a\nptq_data = embedded")
    assert (found.threads, found.suites, found.data) == (4, ("b",), "embedded")


def test_a_budget_of_the_ini_file_is_told_from_the_command_lines(settings) -> None:
    found = settings("--ptq-budget=20", ini="ptq_budget = 10")
    assert (found.budget_s, found.budget_default_s) == (20.0, 10.0)


def test_a_relative_path_is_meant_from_where_it_is_written(
    settings, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = pytester.mkdir("below")
    pytester.makeini("[pytest]\nptq_history = h")
    monkeypatch.chdir(below)
    found = read_settings(pytester.parseconfig("--ptq-save=s", "--rootdir", str(pytester.path)))
    assert found.history == pytester.path / "h"
    assert found.save == below / "s"


def test_updating_is_no_ini_key(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nptq_update_baseline = all")
    assert "ptq_update_baseline" in pytester.runpytest_inprocess("--strict-config").stderr.str()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--ptq-latency=gat"], "unknown value of --ptq-latency 'gat'. Did you mean 'gate'?"),
        (["--ptq-update-baseline=every"], "unknown value of --ptq-update-baseline 'every'"),
        (["--ptq-metrics=acuracy"], "unknown gate in --ptq-metrics 'acuracy'. Did you mean 'accuracy'?"),
        (["--ptq-metrics=,"], "--ptq-metrics names no gate"),
        (["--ptq-metrics=latency", "--ptq-latency=off"], "--ptq-latency off leaves nothing"),
        (["--ptq-threads=0"], "--ptq-threads: '0' is not a positive whole number"),
        (["--ptq-threads=two"], "--ptq-threads: 'two' is not a positive whole number"),
        (["--ptq-weights=nowhere.pt"], "--ptq-weights: there is no file"),
        (["--ptq-annotations=gitlab"], "unknown value of --ptq-annotations 'gitlab'. Did you mean 'github'?"),
        (["--ptq-budget=0"], "--ptq-budget: '0' is not a positive number of seconds"),
        (["--ptq-budget=0.0"], "--ptq-budget: '0.0' is not a positive number of seconds"),
        (["--ptq-budget=nan"], "--ptq-budget: 'nan' is not a positive number of seconds"),
        (["--ptq-budget=1e999"], "--ptq-budget: '1e999' is not a positive number of seconds"),
        (["--ptq-budget=-5"], "--ptq-budget: '-5' is not a positive number of seconds"),
        (["-o", "ptq_budget=10 min"], "ini key ptq_budget: '10 min' is not a positive number of seconds"),
        (["--ptq-json=a\0b"], "is not a path"),
        (["--ptq-json=."], "is a folder. Name a file."),
        (["--ptq-report-html=."], "is a folder. Name a file."),
        (["--ptq-report-md=."], "is a folder. Name a file."),
        (["-o", "ptq_threads=two"], "ini key ptq_threads"),
        (["-o", "ptq_strict=perhaps"], "ini key ptq_strict"),
    ],
)
def test_bad_values_are_usage_errors(pytester: pytest.Pytester, args: list[str], sentence: str) -> None:
    result = pytester.runpytest_inprocess(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_help_and_markers_name_everything(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess("--help").stdout.str()
    for option in ("suite", "list-suites", "qconfig", "data", "weights", "metrics", "threads", "latency",
                   "update-baseline", "baseline-dir", "history", "save", "strict", "json", "budget",
                   "report-html", "report-md", "annotations"):  # fmt: skip
        assert f"--ptq-{option}" in text
    markers = pytester.runpytest_inprocess("--markers").stdout.str()
    for name in ("ptq(", "ptq_accuracy", "ptq_size", "ptq_coverage", "ptq_latency"):
        assert f"@pytest.mark.{name}" in markers
