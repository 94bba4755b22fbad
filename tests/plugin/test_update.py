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
    result.stdout.fnmatch_lines(
        [
            f"baseline changes of tiny?x86? on embedded data, {machine_key()}:",
            "  + accuracy_drop_pp *none -> *pp*",
            "baseline written to baselines/tiny.json",
        ]
    )
    result.stdout.no_fnmatch_line("  ? size_reduction_x *")
    result.stdout.no_fnmatch_line("  ? int8_macs_percent *")


def test_new_without_a_file_writes_default_limits_to_be_reviewed(project: Project) -> None:
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
    result.stdout.fnmatch_lines(["  + limit accuracy_drop_pp *none -> 1 pp   to be reviewed"])
    # The defaults are judged by at once: tiny does not shrink 3.5 times, and nothing fails open.
    assert "size of tiny[x86] on embedded data: FAIL" in result.stdout.str()
    # A limit comes from the file that it is being written to, and is edited there.
    source = "baselines/tiny.json, a default that this run writes"
    result.stdout.fnmatch_lines([f"*limit *at least 3.50 x, from {source}", f"*accept *edit it at {source}"])


def test_failed_rewrites_what_failed_and_still_fails(project: Project) -> None:
    stale(project)
    project.gates("--ptq-update-baseline", "failed").assert_outcomes(passed=2, failed=1)
    assert 1 < values(project)["size_reduction_x"]["value"] < 10
    assert values(project)["int8_macs_percent"] == {"value": 100.0}
    assert "accuracy_drop_pp" not in values(project)
    project.gates().assert_outcomes(passed=3)


def test_failed_writes_no_limits(project: Project) -> None:
    stale(project)
    text = project.baseline.read_text(encoding="utf-8").replace('"accuracy_drop_pp"', '"top5_drop_pp"')
    project.baseline.write_text(text, encoding="utf-8")
    result = project.gates("--ptq-update-baseline", "failed")
    result.assert_outcomes(passed=1, failed=2)
    assert "accuracy_drop_pp" not in entry(project)["limits"]["x86"]
    assert "value" in values(project)["accuracy_drop_pp"]
    assert "no limit is set for accuracy drop" in result.stdout.str()


def test_all_rewrites_and_passes(project: Project) -> None:
    stale(project)
    result = project.gates("--ptq-update-baseline", "all")
    result.assert_outcomes(passed=3)
    assert 1 < values(project)["size_reduction_x"]["value"] < 10
    assert "samples" in values(project)["accuracy_drop_pp"]
    result.stdout.fnmatch_lines(["  ~ size_reduction_x *50.00 x *-> *x * -9?.? %", "baseline written to *"])
    again = project.gates("--ptq-update-baseline", "all")
    again.stdout.fnmatch_lines(["baseline baselines/tiny.json says so already: nothing to write"])
    assert "baseline changes" not in again.stdout.str()


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


def test_what_people_wrote_outlives_every_update(project: Project) -> None:
    tree = {
        "schema": 2,
        "suite": "tiny",
        "comment": "of the file",
        "data": {
            "embedded": {
                "comment": "of the data",
                "limits": {"x86": {**dict(reversed(LIMITS.items())), "comment": "of the limits"}},
                "xfail": {"minmax": {"latency_ratio": "no kernel yet"}},
                "tolerances": {"sqnr_db": 3.0},
            },
            "imagenet": {"limits": {"x86": {"accuracy_drop_pp": 1.0}}},
        },
    }
    project.baseline.write_text(json.dumps(tree), encoding="utf-8")
    for kind in ("new", "failed", "all"):
        project.gates("--ptq-update-baseline", kind).assert_outcomes(passed=3)
    found = json.loads(project.baseline.read_text(encoding="utf-8"))
    assert found["data"]["embedded"].pop("recorded")
    assert json.dumps(found) == json.dumps(tree)


def test_a_file_of_the_first_schema_is_upgraded_on_update_only(project: Project) -> None:
    latency = {"latency_ratio": {"value": 0.001, "low": 0.001, "high": 0.001}}
    old = {"x86": {**latency, "size_reduction_x": {"value": 50.0}}}
    project.limits(recorded={machine_key(): old})
    text = project.baseline.read_text(encoding="utf-8").replace('"schema": 2', '"schema": 1')
    project.baseline.write_text(text, encoding="utf-8")
    project.gates().assert_outcomes(passed=2, failed=1)
    assert project.baseline.read_text(encoding="utf-8") == text
    note = "baseline upgraded from schema 1 to 2: *"
    result = project.gates("--ptq-update-baseline", "all")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([note])
    assert json.loads(project.baseline.read_text(encoding="utf-8"))["schema"] == 2
    project.gates("--ptq-update-baseline", "all").stdout.no_fnmatch_line(note)
    assert "latency_ratio" not in values(project)


def test_a_run_changes_only_what_it_measured(project: Project) -> None:
    # Somebody else writes between this run's reading and its writing.
    project.pytester.makeconftest(
        "import json, pathlib\n"
        "def pytest_runtest_teardown(item, nextitem):\n"
        "    if nextitem is not None: return\n"
        "    path = pathlib.Path('baselines/tiny.json')\n"
        "    tree = json.loads(path.read_text())\n"
        "    tree['data']['embedded']['limits']['x86']['accuracy_drop_pp'] = 77.0\n"
        "    tree['data']['embedded']['recorded'] = {'other/machine': {'x86': {'sqnr_db': {'value': 1.0}}}}\n"
        "    path.write_text(json.dumps(tree))\n"
    )
    project.gates("--ptq-update-baseline", "all").assert_outcomes(passed=3)
    assert entry(project)["limits"]["x86"]["accuracy_drop_pp"] == 77.0
    assert entry(project)["recorded"]["other/machine"] == {"x86": {"sqnr_db": {"value": 1.0}}}
    assert "sqnr_db" in values(project)


def test_the_header_says_whether_drift_is_judged(project: Project) -> None:
    stale(project)
    project.gates("--collect-only").stdout.fnmatch_lines(["ptq: suite=tiny *baseline=*tiny.json drift=judged"])
    project.limits(recorded={"b/machine": {"x86": {}}, "a/machine": {"x86": {}}})
    expected = "ptq: suite=tiny * drift=not judged (recorded on a/machine, b/machine)"
    project.gates("--collect-only").stdout.fnmatch_lines([expected])
    project.limits()
    project.gates("--collect-only").stdout.fnmatch_lines(
        ["ptq: suite=tiny * drift=not judged (recorded on no machine)"]
    )
    result = project.gates("--collect-only", "--ptq-update-baseline", "all")
    result.stdout.fnmatch_lines(["ptq: suite=tiny * drift=not judged (recorded anew)"])
    project.baseline.write_text("{", encoding="utf-8")
    assert "drift=" not in project.gates("--collect-only").stdout.str()


def test_another_machine_is_one_note(project: Project) -> None:
    project.limits(recorded={"another/machine": {"x86": {"size_reduction_x": {"value": 50.0}}}})
    result = project.gates()
    result.assert_outcomes(passed=3)
    note = (
        f"tiny on embedded data: nothing recorded for {machine_key()} (recorded: another/machine): limits were "
        "judged, drift was not; --ptq-update-baseline new records it"
    )
    assert result.stdout.lines.count(note) == 1
    assert note.partition(" (")[0] not in project.gates("--ptq-update-baseline", "new").stdout.str()


def test_what_is_stale_is_named_however_little_was_run(project: Project) -> None:
    stale(project)
    text = project.baseline.read_text(encoding="utf-8").replace('"minmax": {', '"gone": {')
    project.baseline.write_text(text, encoding="utf-8")
    (project.baseline.parent / "other.json").write_text(text.replace('"tiny"', '"other"'), encoding="utf-8")
    line = 1 + text[: text.index('"gone"')].count("\n")
    for cut in ((), ("-k", "size"), ("--ptq-qconfig", "x86")):
        result = project.gates(*cut)
        result.stdout.fnmatch_lines(
            [
                f"baselines/tiny.json:{line}: stale: suite tiny has no qconfig 'gone' *",
                "baselines/tiny.json:*: missing: no limit for * of minmax on embedded data; *",
                "baselines/other.json: stale: no suite is called 'other'; *",
            ]
        )
        assert result.stdout.str().count(" stale: ") == 2
    assert ": stale: " not in project.tests("def test_of_mine(): pass").stdout.str()


def test_a_selection_makes_nothing_stale(project: Project) -> None:
    project.limits(recorded={machine_key(): {"minmax": {"size_reduction_x": {"value": 50.0}}}})
    assert ": stale: " not in project.gates("-k", "size").stdout.str()


def test_one_file_that_cannot_be_written_costs_no_other(project: Project) -> None:
    source = (project.path / "suites" / "tiny.py").read_text(encoding="utf-8")
    (project.path / "suites" / "twin.py").write_text(source.replace('"tiny"', '"twin"'), encoding="utf-8")
    twin = project.baseline.with_name("twin.json")
    twin.write_text(project.baseline.read_text(encoding="utf-8").replace('"tiny"', '"twin"'), encoding="utf-8")
    project.baseline.rename(project.path / "target.json")
    project.baseline.symlink_to(project.path / "target.json")
    result = project.gates("--ptq-suite", "tiny,twin", "--ptq-update-baseline", "all")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["baseline written to baselines/twin.json", "ERROR: baseline: *tiny.json*symbolic link*"]
    )
