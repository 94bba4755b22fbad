"""Names that would leave a folder, break a log or colour a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plugin.project import LIMITS, Project, output

from pytest_ptq.errors import PTQError, SuiteError, UsageError
from pytest_ptq.qconfig import QConfig

EVIL = {
    "parent": "../evil",
    "nul": "evil\0",
    "long": "n" * 300,
    "script": "<script>alert(1)</script>",
    "formula": "=cmd|' /C calc'!A0",
    "command": "::error::boo",
    "ansi": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "newline": "a\n::error::boo",
    "reversed": "a\u202eb",
    "empty": "",
}
names = pytest.mark.parametrize("name", EVIL.values(), ids=EVIL.keys())


def harmless(text: str) -> None:
    assert not set("\x1b\x07\0\u202e") & set(text)
    assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text


def files(project: Project) -> list[Path]:
    return sorted(path for path in project.path.parent.rglob("*") if path.is_file())


@names
def test_a_suite(project: Project, name: str) -> None:
    project.edit_suite('name="tiny"', f"name={name!r}")
    before = files(project)
    result = project.gates("--ptq-update-baseline", "new")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    harmless(output(result))
    assert "is not a usable name" in output(result) or "cannot name a baseline file" in output(result)
    assert files(project) == before


@names
def test_a_suite_that_is_asked_for(project: Project, name: str) -> None:
    result = project.pytester.runpytest_inprocess(f"--ptq-suite={name}", "--ptq-metrics=size")
    # Nothing asked for is no suite at all: pytest runs the project's own tests, and has none.
    expected = pytest.ExitCode.NO_TESTS_COLLECTED if name == "" else pytest.ExitCode.USAGE_ERROR
    assert result.ret == expected
    harmless(output(result))


@names
def test_a_qconfig(project: Project, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a qconfig"):
        QConfig(name)
    project.edit_suite("from pytest_ptq import Suite, Variant", "from pytest_ptq import QConfig, Suite, Variant")
    project.edit_suite('    name="tiny",\n', f'    name="tiny",\n    qconfigs=(QConfig({name!r}),),\n')
    result = project.gates("--ptq-update-baseline", "new", "--ptq-save=out")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    harmless(output(result))
    assert "cannot name a qconfig" in output(result)
    assert not (project.path / "out").exists()


@names
def test_a_qconfig_that_is_asked_for(project: Project, name: str) -> None:
    result = project.run("--ptq-metrics=size", f"--ptq-qconfig={name}")
    assert result.ret == (pytest.ExitCode.OK if name == "" else pytest.ExitCode.USAGE_ERROR)
    harmless(output(result))


@names
def test_a_kind_of_data(project: Project, name: str) -> None:
    # It names no file: it is a key of the baseline, and is shown escaped.
    project.edit_suite('variants={"embedded":', f"variants={{{name!r}:")
    result = project.gates("--ptq-update-baseline", "new")
    harmless(output(result))
    assert result.ret == pytest.ExitCode.TESTS_FAILED  # the default limits are not tiny's
    limits = json.loads(project.baseline.read_text(encoding="utf-8"))["data"][name]["limits"]["x86"]
    assert limits.pop("comment")
    assert set(limits) == set(LIMITS) - {"latency_ratio"}
    again = project.gates()
    harmless(output(again))
    assert again.ret == pytest.ExitCode.TESTS_FAILED


@names
def test_an_error_that_quotes_it(name: str) -> None:
    error = SuiteError(f"the file raises KeyError: {name}", place=f"suites/{name}.py", remedy=f"Rename {name}.")
    assert isinstance(error, PTQError)
    harmless(str(error))
    assert len(str(error).splitlines()) == 1


def test_usual_names_of_qconfigs() -> None:
    for name in ("x86", "minmax", "my-own_1.2", "x86+fp32.head", "größe", "n" * 100):
        assert QConfig(name).name == name
