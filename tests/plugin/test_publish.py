"""Latency samples in pytest-benchmark's own files and tables, and gates that do not need it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from plugin.clockwork import Clockwork
from plugin.project import Project, output
from pytest_ptq.plugin.publish import ReplayTimer

ONE = ("--ptq-metrics", "latency", "--ptq-qconfig", "x86")


INT8_MS = [[0.5, 0.4, 0.5], [0.51, 0.4, 0.51], [0.49, 0.4, 0.49], [0.5, 0.4, 0.5], [0.5, 0.4, 0.5]]


@pytest.fixture(autouse=True)
def _samples(clockwork: Callable[..., Clockwork]) -> None:
    """Latencies that are known beforehand, with fp32 at 1 ms: a ratio of 0.5."""
    clockwork(*INT8_MS)


def benchmarks(path: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return found


def test_the_json_holds_the_samples(project: Project) -> None:
    project.run(*ONE, "--benchmark-json=b.json").assert_outcomes(passed=1)
    (found,) = benchmarks(project.path / "b.json")
    assert found["fullname"] == "suites/tiny.py::test_latency[x86]"
    assert (found["param"], found["group"]) == ("x86", "tiny int8 latency")
    assert found["stats"]["data"] == [ms / 1000 for times in INT8_MS for ms in times]
    extra = found["extra_info"]
    assert extra["fp32_ms"] == [1.0] * 15
    assert extra["latency_ratio"] == pytest.approx(0.5, abs=1e-3)
    assert extra["latency_ratio_low"] <= 0.5 <= extra["latency_ratio_high"]
    assert (extra["latency_ratio_samples"], extra["threads"]) == (15, 1)
    assert extra["process_of"] == [i // 3 for i in range(15)]


def test_a_failed_gate_is_published_too(project: Project) -> None:
    project.limits(latency_ratio=0.1)
    project.run(*ONE, "--benchmark-json=b.json").assert_outcomes(failed=1)
    assert len(benchmarks(project.path / "b.json")) == 1


def test_autosave_and_compare(project: Project) -> None:
    project.run(*ONE, "--benchmark-autosave").assert_outcomes(passed=1)
    result = project.run(*ONE, "--benchmark-compare", "--benchmark-compare-fail=median:5%")
    result.assert_outcomes(passed=1)
    for run in ("0001_", "NOW"):  # which comes first is left to chance: both took the same time
        result.stdout.fnmatch_lines([f"test_latency?x86? ({run}*"])


def test_a_histogram_is_drawn(project: Project) -> None:
    pytest.importorskip("pygal")
    project.run(*ONE, "--benchmark-histogram=times").assert_outcomes(passed=1)
    (found,) = project.path.glob("times*.svg")
    assert "test_latency[x86]" in found.read_text(encoding="utf-8")


def test_profiling_the_replay_does_no_harm(project: Project) -> None:
    project.run(*ONE, "--benchmark-cprofile=tottime").assert_outcomes(passed=1)


@pytest.mark.parametrize("args", [["--benchmark-disable"], ["-p", "no:benchmark"]], ids=["disabled", "absent"])
def test_gates_work_without_pytest_benchmark(project: Project, args: list[str]) -> None:
    result = project.run(*ONE, *args)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["x86 *0.500*pass*"])
    project.limits(latency_ratio=0.1)
    project.run(*ONE, *args).assert_outcomes(failed=1)


def test_skipping_and_choosing_benchmarks(project: Project) -> None:
    args = ("--ptq-metrics", "size,latency", "--ptq-qconfig", "x86")
    project.run(*args, "--benchmark-skip").assert_outcomes(passed=1, skipped=1)
    project.run(*args, "--benchmark-only").assert_outcomes(passed=1, skipped=1)


def test_what_cannot_be_measured_is_not_published(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_ptq.errors import MeasurementError

    def refuse(*_: object, **__: object) -> None:
        raise MeasurementError("the int8 model refuses an input")

    monkeypatch.setattr("pytest_ptq.measure.latency._spawn", refuse)
    result = project.run(*ONE, "-W", "error")
    result.assert_outcomes(failed=1)
    assert "the int8 model refuses an input" in result.stdout.str()
    assert "not used at all" not in output(result)


def test_the_timer_gives_each_sample_exactly() -> None:
    timer = ReplayTimer()
    run = timer.replay([0.1, 0.7])
    seen = []
    for _ in range(3):
        timer.rewind()
        start = timer()
        run()
        seen.append(timer() - start)
    assert seen == [0.1, 0.7, 0.1]
