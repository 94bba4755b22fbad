"""What a run does with a baseline file that says what it must not: one sentence with its line, and a failed run."""

from __future__ import annotations

import errno
import json
import os
import stat

import pytest
from plugin.project import Project, machine_key, output

DEEP = 10 * 2**20
LIMIT = '"accuracy_drop_pp": 100.0'


def damaged(project: Project, old: str, new: str) -> int:
    """Replace the first `old` in the baseline. Returns its line."""
    text = project.baseline.read_text(encoding="utf-8")
    assert old in text
    project.baseline.write_text(text.replace(old, new, 1), encoding="utf-8")
    return 1 + text[: text.index(old)].count("\n")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (LIMIT, f"{LIMIT}, {LIMIT}", "the key 'accuracy_drop_pp' stands there twice"),
        (LIMIT, '"accuracy_drop_pp": NaN', "NaN is not a value that JSON knows"),
        (LIMIT, '"accuracy_drop_pp": Infinity', "Infinity is not a value that JSON knows"),
        (LIMIT, '"accuracy_drop_pp": -Infinity', "-Infinity is not a value that JSON knows"),
        (LIMIT, '"accuracy_drop_pp": 1e999', "the number 1e999 is too large"),
        (LIMIT, '"accuracy_drop_pp": null', "the limit of accuracy_drop_pp is not a number"),
        (LIMIT, '"accuracy_drop_pp": ' + "[" * DEEP, "it is nested more than 32 deep"),
        (LIMIT, '"accuracy_drop_pp": ' + '{"a":' * (DEEP // 5), "it is nested more than 32 deep"),
        ('"schema": 2', '"schema": 3', "schema 3 comes from a newer pytest-ptq; *Upgrade pytest-ptq."),
        ('"schema": 2', '"schema": 0', "schema 0 never existed"),
        ('"tiny"', '"other"', "the file is for suite 'other', its name says 'tiny'"),
        (LIMIT, '"\\u001b[31m::error::\\u202e": 1', r"'\x1b?31m::error::\u202e' is not a metric*"),
    ],
    ids=[
        "twice", "nan", "infinity", "-infinity", "1e999", "null", "deep-list", "deep-object", "newer", "schema-0",
        "suite", "ansi",
    ],
)  # fmt: skip
@pytest.mark.parametrize("update", [(), ("--ptq-update-baseline", "all")], ids=["judge", "update"])
def test_damage_is_told_with_its_line(
    project: Project, old: str, new: str, words: str, update: tuple[str, ...]
) -> None:
    line = damaged(project, old, new)
    text = project.baseline.read_bytes()
    result = project.gates("-k", "size", *update)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"baseline: baselines/tiny.json:{line}: {words}*", "run record: *"])
    assert "Traceback" not in output(result)
    assert "\x1b" not in output(result)
    assert project.baseline.read_bytes() == text


def test_comments_and_reasons_never_reach_the_terminal_raw(project: Project) -> None:
    evil = "\x1b[2J\x1b]0;title\x07\n::error::boo\u202e<script>"
    project.limits(recorded={f"key{evil}": {f"q{evil}": {f"m{evil}": {"value": 1.0, "commit": evil}}}})
    tree = json.loads(project.baseline.read_text(encoding="utf-8"))
    kind = tree["data"]["embedded"]
    tree["comment"] = kind["comment"] = kind["limits"]["x86"]["comment"] = evil
    kind["limits"][f"gone{evil}"] = {}
    kind["xfail"] = {"x86": {"size_reduction_x": evil}}
    tree["data"][f"kind{evil}"] = {}
    project.baseline.write_text(json.dumps(tree), encoding="utf-8")
    for update in ((), ("--ptq-update-baseline", "new")):
        text = output(project.gates("-rA", *update))
        assert "stale: suite tiny has no qconfig" in text
        assert not set("\x1b\x07\u202e") & set(text)
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]
    # An update keeps them as they are.
    assert json.loads(project.baseline.read_text(encoding="utf-8"))["comment"] == evil


def test_another_machine_is_judged_by_limits_only(project: Project) -> None:
    project.limits(recorded={"avx2/onednn/64t/torch2.1": {"x86": {"size_reduction_x": {"value": 50.0}}}})
    result = project.gates()
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "ptq: suite=tiny * drift=not judged (recorded on avx2/onednn/64t/torch2.1)",
            f"tiny on embedded data: nothing recorded for {machine_key()} (recorded: avx2/onednn/64t/torch2.1): *",
        ]
    )


def test_an_interrupt_while_the_baseline_is_written(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(before: object, after: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    before = project.baseline.read_text(encoding="utf-8")
    result = project.gates("--ptq-update-baseline", "all")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "interrupted while pytest-ptq wrote its files: each is whole" in output(result)
    assert "Traceback" not in output(result)
    assert project.baseline.read_text(encoding="utf-8") == before
    assert [path.name for path in project.baseline.parent.iterdir()] == ["tiny.json"]
    assert not project.records()


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS"])
def test_a_disk_that_is_full_fails_the_run_and_keeps_its_results(
    project: Project, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    real, number = os.fsync, getattr(errno, code)

    def full(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    before = project.baseline.read_text(encoding="utf-8")
    result = project.gates("--ptq-update-baseline", "all")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "x86 *pass*",
            f"ERROR: store: *the run record cannot be written ({os.strerror(number)})*",
            f"ERROR: baseline: baselines/tiny.json: the baseline cannot be written ({os.strerror(number)}). Nothing *",
        ]
    )
    assert project.baseline.read_text(encoding="utf-8") == before
    assert [path.name for path in project.baseline.parent.iterdir()] == ["tiny.json"]
