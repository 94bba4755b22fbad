"""docs/tutorial.md, done: its files written, its commands given, and what they print held against the page."""

from __future__ import annotations

import shlex

import pytest

from pages.fences import Block, blocks, missing, write

QUICK = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider", "-p", "no:xdist")


@pytest.mark.usefixtures("_heavy")
def test_the_tutorial_is_what_happens(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")  # as wide as the page's tables
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(pytester.path.parent))
    given = 0
    for block in blocks("tutorial.md"):
        if block.title == "report.md":
            same_report(block, (pytester.path / "report.md").read_text(encoding="utf-8"))
        elif block.title:
            write(block, pytester.path)
        elif block.language == "console":
            for command, said in block.commands():
                program, *args = shlex.split(command)
                assert program == "pytest"
                result = pytester.runpytest_inprocess(*QUICK, *args)
                assert missing(said, result.stdout.lines) == [], result.stdout.str()
                given += 1
    assert given == 4


def same_report(block: Block, found: str) -> None:
    """But for the commit, which a folder without a repository has none of."""
    for said, line in zip(block.text.splitlines(), found.splitlines(), strict=False):
        assert said.partition(" of ")[0] == line.partition(" of ")[0]


def test_a_line_that_is_not_printed_is_found() -> None:
    printed = ["a 1.5 ms", "==== 2 passed in 3.1s ===", "b"]
    assert missing(["a 2.5 ms", "=== 2 passed in 0.4s ====="], printed) == []
    assert missing(["a", "b"], printed) == ["a"]
    assert missing(["b", "a 1.5 ms"], printed) == ["a 1.5 ms"]
