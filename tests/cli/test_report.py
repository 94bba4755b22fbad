"""Reports from the command line: which runs are in them, and where they go."""

from __future__ import annotations

from pathlib import Path

import pytest

HISTORY = Path(".ptq/history")


@pytest.fixture
def seen(monkeypatch):
    """What the page is made of; the page itself has tests of its own."""
    given = []
    from pytest_ptq.report import html, markdown

    def page(records, *, title="usual"):
        given.append(([record.run_id for record in records], title))
        return "<html>page\n"

    def summary(record, history=()):
        given.append(([*(run.run_id for run in history), record.run_id], None))
        return "# summary\n"

    monkeypatch.setattr(html, "html_report", page)
    monkeypatch.setattr(markdown, "markdown_report", summary)
    return given


@pytest.mark.usefixtures("project")
def test_the_ending_says_what_is_written(ask, seen):
    assert ask("report", "-o", "out/page.html").out == "out/page.html: 6 runs\n"
    assert Path("out/page.html").read_text() == "<html>page\n"
    assert ask("report", "run2", "-o", "a.md", "--json").json == {
        "run_id": "run20000", "runs": 3, "format": "md", "file": "a.md",
    }  # fmt: skip
    assert Path("a.md").read_text() == "# summary\n"
    assert ask("report", "-o", "a.txt", "--format", "html").status == 0
    assert seen == [
        ([f"run{day}0000" for day in range(6)], "usual"),
        ([f"run{day}0000" for day in range(3)], None),
        ([f"run{day}0000" for day in range(6)], "usual"),
    ]


@pytest.mark.usefixtures("project")
def test_only_the_newest_runs_and_a_title(ask, seen):
    ask("report", "-o", "a.html", "--last", "2", "--title", "T")
    ask("report", "-o", "a.html", "--last", "1")
    assert seen == [(["run40000", "run50000"], "T"), (["run50000"], "usual")]


@pytest.mark.usefixtures("project", "seen")
def test_markdown_is_printed_where_no_file_is_named(ask):
    assert ask("report").out == "# summary\n"


@pytest.mark.parametrize(
    ("args", "status", "sentence"),
    [
        (("--format", "html"), 4, "no file is named. Add -o report.html"),
        (("--json",), 4, "no file is named"),
        (("-o", "a.txt"), 4, "'a.txt' says neither HTML nor Markdown"),
        (("unknown",), 4, "unknown run 'unknown'"),
        (("-o", "file/a.md"), 1, "the report cannot be written"),
        (("--format", "pdf"), 4, "'pdf' is not one of 'html', 'md'"),
    ],
)
@pytest.mark.usefixtures("project", "seen")
def test_misuse_is_one_sentence(ask, args, status, sentence):
    Path("file").write_text("x")
    said = ask("report", *args)
    assert (said.status, said.out) == (status, "")
    assert sentence in said.err
    assert said.err.count("\n") == 1


@pytest.mark.usefixtures("project")
def test_the_markdown_is_that_of_the_run(ask):
    said = ask("report", "run5")
    assert said.status == 0
    assert "net" in said.out
    assert "\x1b" not in said.out
