"""The time budget of a suite: what it counts, what it stops, and that nothing passes for not having been judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from plugin.project import Project, output
from pytest_ptq.errors import MeasurementError, SuiteError
from pytest_ptq.plugin.budget import OVERRUN, Budget
from pytest_ptq.suite import Suite, Variant


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def plain(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
    yield from items


def test_only_what_belongs_to_the_suite_counts(clock: Clock) -> None:
    budget = Budget("tiny", 10.0, clock)
    for seconds in (4.0, 5.0):
        with budget.counting():
            clock.now += seconds
        clock.now += 100.0
        budget.check()
    assert budget.spent_s == 9.0
    with budget.counting():
        clock.now += 1.0
        with pytest.raises(MeasurementError):
            budget.check()


def test_a_test_that_raises_counts_too(clock: Clock) -> None:
    budget = Budget("tiny", 10.0, clock)

    def fail() -> None:
        clock.now += 10.0
        raise KeyError

    with pytest.raises(KeyError), budget.counting():
        fail()
    with pytest.raises(MeasurementError):
        budget.check()


def test_without_a_limit_nothing_is_refused(clock: Clock) -> None:
    budget = Budget("tiny", None, clock)
    with budget.counting():
        clock.now += 1e9
        assert list(budget.watch(plain)([1, 2], "calibrating", None)) == [1, 2]
        budget.check()


def test_the_refusal_says_where_the_time_went(clock: Clock) -> None:
    budget = Budget("tiny", 500.0, clock)
    progress = budget.watch(plain)
    with budget.counting():
        for title, seconds in (("calibrating", 60.0), ("evaluating fp32", 100.0), ("evaluating x86", 50.0)):
            for _ in progress([1, 2], title, 2):
                clock.now += seconds
        clock.now += 80.0
    with pytest.raises(MeasurementError) as caught:
        budget.check()
    assert str(caught.value) == (
        "budget: not judged: the time budget of 500 s of suite tiny is used up "
        "(evaluating 300 s, calibrating 120 s, all else 80 s). "
        "Raise it with --ptq-budget, or run less with --ptq-qconfig or --ptq-metrics."
    )


def test_a_step_that_overruns_is_stopped_between_two_batches(clock: Clock) -> None:
    budget = Budget("tiny", 10.0, clock)
    done = []

    def calibrate() -> None:
        for item in budget.watch(plain)(range(100), "calibrating", 100):
            clock.now += 4.0
            done.append(item)

    with budget.counting(), pytest.raises(MeasurementError, match="used up"):
        calibrate()
    assert clock.now == 16.0 >= OVERRUN * 10.0
    assert done == [0, 1, 2, 3]


def test_what_is_stopped_is_closed_at_once(clock: Clock) -> None:
    """A bar or a process that a suspended generator holds does not live as long as the traceback."""
    closed = []

    def source(name: str) -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(name)

    def progress(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
        try:
            yield from items
        finally:
            closed.append("bar")

    def calibrate() -> None:
        for _ in budget.watch(progress)(source("processes"), "latency", 100):
            clock.now += 10.0

    budget = Budget("tiny", 10.0, clock)
    with budget.counting(), pytest.raises(MeasurementError) as caught:
        calibrate()
    assert sorted(closed) == ["bar", "processes"]
    assert caught.tb is not None


def test_a_step_that_ends_a_little_late_is_left_alone(clock: Clock) -> None:
    budget = Budget("tiny", 10.0, clock)
    with budget.counting():
        for _ in budget.watch(plain)([1, 2, 3], "calibrating", 3):
            clock.now += 4.0
    assert budget.spent_s == 12.0


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_suite_cannot_have_nonsense(seconds: float) -> None:
    with pytest.raises(SuiteError, match="budget_s"):
        Suite("s", {"embedded": Variant(model=lambda: None, data=None)}, budget_s=seconds)  # type: ignore[arg-type]


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that a conftest moves: 10 s for each test, 1 s for each calibration batch."""
    clock = Clock()
    monkeypatch.setattr("pytest_ptq.plugin.budget.CLOCK", clock)
    return clock


def slow_tests(project: Project, seconds: float) -> None:
    """Each test of the project takes that long in its setup."""
    project.pytester.makeconftest(
        "import pytest\nfrom pytest_ptq.plugin import budget\n\n\n"
        f"@pytest.fixture(autouse=True)\ndef slow():\n    budget.CLOCK.now += {seconds}\n"
    )


def test_what_has_not_begun_fails(project: Project, ticking: Clock) -> None:
    slow_tests(project, 10.0)
    result = project.gates("--ptq-budget", "15", "--ptq-annotations=github")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, errors=1)
    sentence = "budget: not judged: the time budget of 15 s of suite tiny is used up (calibrating 0 s, "
    assert sentence in output(result).replace("evaluating 0 s, calibrating 0 s", "calibrating 0 s, evaluating 0 s")
    assert "Traceback" not in output(result)
    result.stdout.fnmatch_lines(["x86 *ERROR*", "tiny?x86?: coverage: budget: not judged*", "::error *not judged*"])
    errors = project.records()[0]["results"][0]["errors"]
    assert [error.partition(":")[0] for error in errors] == ["coverage"]


def test_nothing_that_is_not_judged_reaches_the_baseline(project: Project, ticking: Clock) -> None:
    slow_tests(project, 10.0)
    result = project.gates("--ptq-budget", "8", "--ptq-update-baseline", "all")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = project.baseline.read_text(encoding="utf-8")
    assert "accuracy_drop_pp" in text
    assert text.count("int8_macs_percent") == 2  # the two limits


def test_the_command_line_wins_over_the_suite_and_that_over_the_ini_file(project: Project, ticking: Clock) -> None:
    slow_tests(project, 10.0)
    project.ini("ptq_budget = 8")
    project.gates().assert_outcomes(passed=1, errors=2)
    project.edit_suite('name="tiny",', 'name="tiny", budget_s=15,')
    project.gates().assert_outcomes(passed=2, errors=1)
    project.gates("--ptq-budget=1000").assert_outcomes(passed=3)


def test_other_tests_are_not_counted(project: Project, ticking: Clock) -> None:
    slow_tests(project, 10.0)
    project.pytester.makepyfile(test_own="def test_a(): pass\ndef test_b(): pass\ndef test_c(ptq_machine): pass")
    project.gates("test_own.py", "--ptq-budget", "25").assert_outcomes(passed=6)


def test_own_tests_of_the_suite_are(project: Project, ticking: Clock) -> None:
    slow_tests(project, 10.0)
    project.pytester.makepyfile(test_own="def test_a(ptq_suite): pass\ndef test_b(ptq_suite): pass")
    project.gates("test_own.py", "--ptq-budget", "5").assert_outcomes(passed=1, errors=4)


def test_a_running_gate_is_stopped_when_it_overruns(project: Project, ticking: Clock) -> None:
    project.edit_suite("def calibration(self):", "def calibration(self):\n        return self.slowly()")
    project.edit_suite(
        "    def fingerprints",
        "    def slowly(self):\n        from pytest_ptq.plugin import budget\n"
        "        for batch in self.images[:CALIBRATION].split(4):\n"
        "            budget.CLOCK.now += 5.0\n            yield batch\n\n    def fingerprints",
    )
    result = project.gates("--ptq-budget", "10", "-k", "size")
    result.assert_outcomes(failed=1)
    assert "budget: not judged: the time budget of 10 s of suite tiny is used up (calibrating" in output(result)
    assert ticking.now < 8 * 5.0
