"""A latency that was recorded at another speed of the machine, or by other kernels: what a session says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from plugin.clockwork import Clockwork
from plugin.project import Project, machine_key, output

Wind = Callable[..., Clockwork]
ONE = ("--ptq-metrics", "latency", "--ptq-qconfig", "x86")
NEAR, FAR = 4.3, 11.7
NATIVE = ("native program", "native program")
NO_COMPILER = "there is no C compiler (cc, gcc or clang; CC names another)"


def times(ratio: float) -> list[list[float]]:
    """Of three processes that differ by a quarter of a percent."""
    return [[ratio * (1 + 0.0025 * step)] * 6 for step in (-1, 0, 1)]


def recorded(project: Project) -> dict[str, Any]:
    data = json.loads(project.baseline.read_text(encoding="utf-8"))["data"]["embedded"]["recorded"]
    found: dict[str, Any] = data[machine_key()]["x86"]["latency_ratio"]
    return found


def record(project: Project, what: str = "all") -> str:
    result = project.run(*ONE, "--ptq-update-baseline", what)
    result.assert_outcomes(passed=1)
    return output(result)


def test_another_speed_is_inconclusive_until_it_is_recorded_beside_the_first(project: Project, clockwork: Wind) -> None:
    clockwork(*times(0.29), exchange=FAR)
    record(project)
    clockwork(*times(0.34), exchange=NEAR)
    result = project.run(*ONE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "tiny?x86?: int8/fp32 latency was recorded as 0.290 on such a machine and 0.340 * leaves open whether it "
            "is worse; the machine hands data from core to core in 4.3 us and did in 11.7 us then, which alone may "
            "move it 1.28 times at most: run again, or record this speed beside the other with "
            "--ptq-update-baseline new"
        ]
    )
    assert project.run(*ONE, "--ptq-strict").ret == pytest.ExitCode.TESTS_FAILED

    said = record(project, "new")
    assert "  + latency_ratio    none" in said
    assert "plain Python 80 us, core to core 4.3 us" in said
    assert recorded(project)["value"] == pytest.approx(0.29, abs=1e-4)
    assert [one["value"] for one in recorded(project)["other_speeds"]] == [pytest.approx(0.34, abs=1e-4)]
    for ratio, speed in ((0.34, NEAR), (0.29, FAR), (0.35, 4.6)):
        clockwork(*times(ratio), exchange=speed)
        project.run(*ONE, "--ptq-strict").assert_outcomes(passed=1)
    assert "says so already" in record(project, "new")


@pytest.mark.parametrize(("speed", "ratio"), [(NEAR, 0.40), (FAR, 0.34)])
def test_a_regression_is_found_at_either_speed(project: Project, clockwork: Wind, speed: float, ratio: float) -> None:
    clockwork(*times(0.29), exchange=FAR)
    record(project)
    clockwork(*times(0.34), exchange=NEAR)
    record(project, "new")
    clockwork(*times(ratio), exchange=speed)
    project.run(*ONE).assert_outcomes(failed=1)


def test_what_no_speed_explains_fails_at_a_speed_that_nobody_recorded(project: Project, clockwork: Wind) -> None:
    clockwork(*times(0.29), exchange=FAR)
    record(project)
    clockwork(*times(0.45), exchange=NEAR)
    result = project.run(*ONE)
    result.assert_outcomes(failed=1)
    assert "worse by more than 10 %; the machine hands data from core to core in 4.3 us" in output(result)


def test_all_forgets_what_other_speeds_recorded(project: Project, clockwork: Wind) -> None:
    """Whether they hold of the model that there is now, nobody knows."""
    clockwork(*times(0.29), exchange=FAR)
    record(project)
    clockwork(*times(0.34), exchange=NEAR)
    record(project, "new")
    clockwork(*times(0.25), exchange=NEAR)
    said = record(project)
    assert recorded(project)["value"] == pytest.approx(0.25, abs=1e-4)
    assert "other_speeds" not in recorded(project)
    assert [line.split()[:3] for line in said.splitlines() if line.startswith("  - latency_ratio")] == [
        ["-", "latency_ratio", "0.290"]
    ]


def test_kernels_are_recorded_though_nothing_but_latency_is_asked_for(project: Project, clockwork: Wind) -> None:
    clockwork(*times(0.29), kernels=NATIVE)
    record(project)
    details = project.records()[-1]["results"][0]["measurements"]["latency_ratio"]["details"]
    assert (details["int8_kernels"], details["fp32_kernels"]) == NATIVE
    assert (recorded(project)["int8_kernels"], recorded(project)["fp32_kernels"]) == NATIVE


def test_a_compiler_that_is_gone_fails_and_is_named(project: Project, clockwork: Wind) -> None:
    clockwork(*times(0.29), kernels=NATIVE)
    record(project)
    clockwork(*times(0.5), kernels=("packed torchscript", "float torchscript"), not_native=NO_COMPILER)
    result = project.run(*ONE)
    result.assert_outcomes(failed=1)
    said = output(result)
    assert f"int8 ran by packed torchscript (no compiled kernels: {NO_COMPILER}) and did by native program then" in said
    assert f"tiny[x86]: int8 by packed torchscript, no compiled kernels: {NO_COMPILER}" in said


def test_models_that_ran_by_unlike_kernels_are_named(project: Project, clockwork: Wind) -> None:
    clockwork(*times(0.29), kernels=("native program", "float torchscript"), not_native="it has a GELU")
    result = project.run(*ONE)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "tiny?x86?: int8 by native program; fp32 by float torchscript, no compiled kernels: it has a GELU: "
            "int8/fp32 does not compare like with like"
        ]
    )
