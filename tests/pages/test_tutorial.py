"""docs/tutorial.md, done: its files written, its commands given, and what they print held against the page."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner

from pages.fences import blocks, missing, write
from pytest_ptq.cli.app import app as command_line

QUICK = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider", "-p", "no:xdist")


@pytest.mark.usefixtures("_heavy")
def test_the_tutorial_is_what_happens(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")  # as wide as the page's tables
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(pytester.path.parent))
    given = 0
    for block in blocks("tutorial.md"):
        if block.title == "report.md":
            report = (pytester.path / "report.md").read_text(encoding="utf-8").splitlines()
            assert missing(block.text.splitlines(), report) == [], report
        elif block.title:
            write(block, pytester.path)
        elif block.language == "console":
            for command, said in block.commands():
                lines = given_in(pytester, *shlex.split(command))
                assert missing(said, lines) == [], "\n".join(lines)
                given += 1
    assert given == 6


def given_in(pytester: pytest.Pytester, program: str, *args: str) -> list[str]:
    """What a command prints."""
    if program == "pytest":
        return pytester.runpytest_inprocess(*QUICK, *args).stdout.lines
    assert program == "pytest-ptq"
    return CliRunner().invoke(command_line, args).output.splitlines()


def test_a_line_that_is_not_printed_is_found() -> None:
    printed = ["a 1.5 ms", "==== 2 passed in 3.1s ===", "b"]
    assert missing(["a 2.5 ms", "=== 2 passed in 0.4s ====="], printed) == []
    assert missing(["a", "b"], printed) == ["a"]
    assert missing(["b", "a 1.5 ms"], printed) == ["a 1.5 ms"]
