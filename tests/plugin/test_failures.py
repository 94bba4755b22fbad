"""A gate that does not pass: it fails its own test, and says what a person needs to know."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from plugin.clockwork import Clockwork
from plugin.project import Project, machine_key, output


def recorded(project: Project, key: str, value: float, **more: float) -> None:
    """Write what this machine is to have recorded for x86."""
    project.limits(recorded={machine_key(): {"x86": {key: {"value": value, **more}}}})


def test_a_broken_limit(project: Project) -> None:
    project.limits(size_reduction_x=99.0)
    result = project.gates()
    result.assert_outcomes(passed=2, failed=1)
    text = project.baseline.read_text(encoding="utf-8")
    line = 1 + text[: text.index('"size_reduction_x": 99.0')].count("\n")
    result.stdout.fnmatch_lines(
        [
            "size of tiny*x86* on embedded data: FAIL",
            f"*limit*at least 99.00 x, from baselines/tiny.json:{line}",
            "*baseline*nothing recorded for *drift was not judged",
            "*reproduce*pytest --ptq-suite tiny --ptq-metrics accuracy,size,coverage --ptq-qconfig x86 "
            "'suites/tiny.py::test_size?x86?'",
            f"*accept*edit it at baselines/tiny.json:{line}",
        ]
    )
    assert "Traceback" not in output(result)


def test_a_failed_accuracy_gate_names_the_worst_layers(project: Project) -> None:
    project.limits(accuracy_drop_pp=-50.0)
    result = project.gates()
    result.stdout.fnmatch_lines(
        ["accuracy of tiny*: FAIL", "*interval*64 samples", "*worst layers by SQNR*", "*conv2d*"]
    )


@pytest.mark.parametrize(
    ("more", "limit", "saved"), [((), 50.0, False), (("--ptq-layers", "all"), 50.0, True), ((), -50.0, True)]
)
def test_layers_are_saved_when_accuracy_fails_or_on_demand(
    project: Project, more: tuple[str, ...], limit: float, saved: bool
) -> None:
    """In graph order, a row each, as a plot wants them."""
    project.limits(accuracy_drop_pp=limit)
    project.gates(*more, "--ptq-metrics", "accuracy,size", "--ptq-json", "run.json")
    (record,) = json.loads((project.pytester.path / "run.json").read_text(encoding="utf-8"))["results"]
    rows = record["worst_layers"]
    assert bool(rows) is saved
    assert len({row["name"] for row in rows}) == len(rows)
    assert all(row["alone_db"] > 0 and row["scale"] != 0 for row in rows)
    assert any(row["gain_db"] is not None for row in rows) is saved


def test_drift_from_what_was_recorded(project: Project) -> None:
    recorded(project, "size_reduction_x", 50.0)
    result = project.gates()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["size of tiny*: FAIL", "*was recorded as 50.00 x*", "*accept*pytest *--ptq-update-baseline all *test_size*"]
    )


def test_the_command_to_accept_makes_the_next_run_pass(project: Project) -> None:
    recorded(project, "size_reduction_x", 50.0)
    id_ = "suites/tiny.py::test_size[x86]"
    assert project.gates(id_).ret == 1
    assert project.gates("--ptq-update-baseline", "all", id_).ret == 0
    assert project.gates(id_).ret == 0


def test_what_another_machine_recorded_is_not_judged(project: Project) -> None:
    project.limits(recorded={"another/machine": {"x86": {"size_reduction_x": {"value": 50.0}}}})
    project.gates().assert_outcomes(passed=3)


def test_an_inconclusive_latency_fails_under_strict_only(project: Project, clockwork: Callable[..., Clockwork]) -> None:
    clockwork([0.45] * 6, [0.55] * 6)
    project.limits(latency_ratio=0.5)
    args = ("--ptq-metrics", "latency", "--ptq-qconfig", "x86")
    lenient = project.run(*args)
    lenient.assert_outcomes(passed=1)
    lenient.stdout.fnmatch_lines(["x86 *inconclusive*"])
    project.run(*args, "--ptq-strict").assert_outcomes(failed=1)
    project.limits(latency_ratio=0.3)
    project.run(*args).assert_outcomes(failed=1)
    project.run(*args, "--ptq-latency", "report").assert_outcomes(passed=1)
    project.limits(latency_ratio=0.7)
    project.run(*args, "--ptq-strict").assert_outcomes(passed=1)


def test_a_needless_conversion_fails_coverage(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_ptq.metrics import INT8_MACS, QDQ_PAIRS, Measurement
    from pytest_ptq.runner.in_torch import InTorch

    found = {m.key: Measurement(m, value) for m, value in ((INT8_MACS, 100.0), (QDQ_PAIRS, 1.0))}
    monkeypatch.setattr(InTorch, "coverage", lambda *_: found)
    result = project.gates()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["coverage of tiny*: FAIL", "*the coverage gate itself*"])


def test_a_missing_limit_fails(project: Project) -> None:
    tree = json.loads(project.baseline.read_text(encoding="utf-8"))
    del tree["data"]["embedded"]["limits"]["x86"]["size_reduction_x"]
    project.baseline.write_text(json.dumps(tree), encoding="utf-8")
    result = project.gates()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*no limit is set for size reduction*", "x86 *no baseline*"])


def test_a_missing_baseline_fails_with_the_command_that_makes_it(project: Project) -> None:
    project.baseline.unlink()
    result = project.gates()
    result.assert_outcomes(failed=3)
    sentence = "baseline: baselines/tiny.json: the baseline does not exist. Write it with `pytest --ptq-suite tiny "
    assert sentence + "--ptq-update-baseline new`." in result.stdout.str()
    result.stdout.fnmatch_lines(["x86 *ERROR*"])
    assert "Traceback" not in output(result)


def test_a_truncated_baseline_fails(project: Project) -> None:
    text = project.baseline.read_text(encoding="utf-8")
    project.baseline.write_text(text[: len(text) // 2], encoding="utf-8")
    for args in ((), ("--ptq-update-baseline", "all")):
        result = project.gates(*args)
        result.assert_outcomes(failed=3)
        assert "baseline: baselines/tiny.json:" in result.stdout.str()
        assert "Traceback" not in output(result)
        assert project.baseline.read_text(encoding="utf-8") == text[: len(text) // 2]
