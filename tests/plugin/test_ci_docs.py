"""docs/ci.md says what is so: its YAML parses, its commands use options that exist, its tables are complete."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugin.project import Project
from pytest_ptq.plugin.options import read_settings

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
GITHUB_ACTIONS = {
    "actions/checkout", "actions/setup-python", "actions/cache", "actions/cache/restore", "actions/cache/save",
    "actions/upload-artifact",
}  # fmt: skip


def scripts(tree: Any) -> Iterator[str]:
    """The shell text of every `run`, `script` and `before_script`, at any depth."""
    if isinstance(tree, list):
        for part in tree:
            yield from scripts(part)
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("run", "script", "before_script"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from scripts(value)


def commands() -> list[list[str]]:
    lines = [line for block in BLOCKS for text in scripts(yaml.safe_load(block)) for line in text.splitlines()]
    return [words[1:] for words in (shlex.split(line, comments=True) for line in lines) if words[:1] == ["pytest"]]


def test_there_are_two_workflows_and_a_pipeline() -> None:
    github, refresh, gitlab = map(yaml.safe_load, BLOCKS)
    for workflow in (github, refresh):
        assert set(workflow) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads `on` as true
        for job in workflow["jobs"].values():
            assert {"runs-on", "steps", "timeout-minutes"} <= set(job)
            assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    assert github["permissions"] == {"contents": "read"}
    assert {"gates", "refresh-baselines"} <= set(gitlab)
    assert len(commands()) == 4


@pytest.mark.parametrize("args", commands(), ids=" ".join)
def test_the_commands_can_be_given(pytester: pytest.Pytester, args: list[str]) -> None:
    settings = read_settings(pytester.parseconfig(*args))
    assert settings.suites == ("resnet50",)
    update = settings.update.value if settings.update else None
    assert (update == "all") != ("--junitxml" in args)


def test_an_option_that_does_not_exist_would_be_noticed(pytester: pytest.Pytester) -> None:
    with pytest.raises(pytest.UsageError):
        pytester.parseconfig("--ptq-suite=resnet50", "--ptq-no-such-option")


def test_options_and_ini_keys_of_the_text_exist(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig()
    shown = pytester.runpytest_inprocess("--help").stdout.str()
    for option in set(re.findall(r"--ptq-[a-z-]+", PAGE)):
        assert re.search(rf"{option}\b", shown), option
    for key in ("ptq_threads", "ptq_budget"):
        assert f"`{key}`" in PAGE
        config.getini(key)


def test_only_githubs_own_actions_pinned_by_major_version() -> None:
    used = re.findall(r"uses: (\S+)", "".join(BLOCKS))
    assert {name.partition("@")[0] for name in used} == GITHUB_ACTIONS
    assert all(re.fullmatch(r"[\w/-]+@v[1-9]\d*", name) for name in used)


def test_nothing_of_an_event_reaches_a_shell() -> None:
    """An expression inside `run:` is pasted into the script before the shell reads it."""
    assert not [text for block in BLOCKS for text in scripts(yaml.safe_load(block)) if "${{" in text]


def test_the_history_is_kept_where_it_is_looked_for() -> None:
    steps = [step for job in yaml.safe_load(BLOCKS[0])["jobs"].values() for step in job["steps"]]
    restored, saved = (
        next(step for step in steps if step.get("uses", "").startswith(f"actions/cache/{verb}@"))
        for verb in ("restore", "save")
    )
    assert restored["with"]["path"] == saved["with"]["path"] == ".ptq/history"
    assert restored["with"]["key"] == saved["with"]["key"]
    assert restored["with"]["key"].startswith(restored["with"]["restore-keys"])
    assert "!cancelled()" in saved["if"]  # else a failed gate would not be remembered


def test_hidden_folders_are_uploaded() -> None:
    for block in BLOCKS:
        for job in (yaml.safe_load(block).get("jobs") or {}).values():
            for step in job["steps"]:
                path = step.get("with", {}).get("path", "")
                if "upload-artifact" in step.get("uses", "") and any(p.startswith(".") for p in path.split()):
                    assert step["with"]["include-hidden-files"] is True


def test_every_exit_code_has_a_row() -> None:
    rows = re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE)
    assert [int(code) for code in rows] == [int(code) for code in pytest.ExitCode]


def test_every_property_has_a_row(project: Project) -> None:
    import xml.etree.ElementTree as ET

    project.gates("--junitxml=junit.xml")
    table = PAGE[PAGE.index("## JUnit properties") : PAGE.index("## Time budget")]
    documented = set(re.findall(r"`([A-Za-z_]+)`", table))
    keys = ("accuracy_drop_pp", "size_reduction_x", "int8_macs_percent", "latency_ratio")
    for found in ET.parse(project.path / "junit.xml").iter("property"):
        name = re.sub(r"^ptq_version_.*", "ptq_version_PACKAGE", found.attrib["name"])
        for key in keys:
            name = re.sub(rf"^{key}", "KEY", name)
        if name.startswith(("ptq_", "KEY")):
            assert name in documented, name
