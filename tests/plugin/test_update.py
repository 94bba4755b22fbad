"""`--ptq-update-baseline`: what each of its three values writes, and what it never touches."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugin.project import LIMITS, Project, machine_key, output


def entry(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.baseline.read_text(encoding="utf-8"))["data"]["embedded"]
    return found


def values(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = entry(project)["recorded"][machine_key()]["x86"]
    return found


def stale(project: Project, **limits: float) -> None:
    """Recorded values that no tiny model has: far better in size, the same in coverage."""
    old = {"size_reduction_x": {"value": 50.0}, "int8_macs_percent": {"value": 100.0}}
    project.limits(recorded={machine_key(): {"x86": old}}, **limits)


def test_new_adds_what_is_missing_and_keeps_the_rest(project: Project) -> None:
    stale(project)
    result = project.gates("--ptq-update-baseline", "new")
    result.assert_outcomes(passed=2, failed=1)
    assert values(project)["size_reduction_x"] == {"value": 50.0}
    assert "value" in values(project)["accuracy_drop_pp"]
    result.stdout.fnmatch_lines(["*x86 accuracy_drop_pp: nothing recorded -> *", "*written to baselines/tiny.json"])
    assert "size_reduction_x: " not in result.stdout.str()


def test_new_without_a_file_writes_default_limits_to_be_reviewed(project: Project, hasty: None) -> None:
    project.baseline.unlink()
    result = project.run("--ptq-qconfig", "x86", "--ptq-update-baseline", "new")
    limits = entry(project)["limits"]["x86"]
    assert "review" in limits.pop("comment")
    assert limits == {
        "accuracy_drop_pp": 1.0,
        "size_reduction_x": 3.5,
        "int8_macs_percent": 90.0,
        "latency_ratio": 1.0,
    }
    result.stdout.fnmatch_lines(["*x86 accuracy_drop_pp: no limit -> limit 1, the default"])
    # The defaults are judged by at once: tiny does not shrink 3.5 times, and nothing fails open.
    assert "size of tiny[x86] on embedded data: FAIL" in result.stdout.str()


def test_failed_rewrites_what_failed_and_still_fails(project: Project) -> None:
    stale(project)
    project.gates("--ptq-update-baseline", "failed").assert_outcomes(passed=2, failed=1)
    assert 1 < values(project)["size_reduction_x"]["value"] < 10
    assert values(project)["int8_macs_percent"] == {"value": 100.0}
    assert "accuracy_drop_pp" not in values(project)
    project.gates().assert_outcomes(passed=3)


def test_all_rewrites_and_passes(project: Project) -> None:
    stale(project)
    result = project.gates("--ptq-update-baseline", "all")
    result.assert_outcomes(passed=3)
    assert 1 < values(project)["size_reduction_x"]["value"] < 10
    assert "samples" in values(project)["accuracy_drop_pp"]
    result.stdout.fnmatch_lines(["baseline tiny embedded x86 size_reduction_x: 50.00 x -> *"])


def test_a_limit_that_a_person_wrote_still_binds(project: Project) -> None:
    stale(project, size_reduction_x=99.0)
    project.gates("--ptq-update-baseline", "all").assert_outcomes(passed=2, failed=1)
    assert entry(project)["limits"]["x86"] == {**LIMITS, "size_reduction_x": 99.0}


def test_an_unwritable_baseline_is_told(project: Project) -> None:
    stale(project)
    target = project.path / "target.json"
    project.baseline.rename(target)
    project.baseline.symlink_to(target)
    result = project.gates("--ptq-update-baseline", "all")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["x86 *pass*", "ERROR: baseline: *"])
    assert "Traceback" not in output(result)


def test_another_folder(project: Project) -> None:
    (project.path / "other").mkdir()
    project.baseline.rename(project.path / "other" / "tiny.json")
    project.gates().assert_outcomes(failed=3)
    project.gates("--ptq-baseline-dir", "other").assert_outcomes(passed=3)


def test_workers_do_not_update(project: Project) -> None:
    result = project.gates("-n", "2", "--ptq-update-baseline", "all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Run without -n." in result.stderr.str()
