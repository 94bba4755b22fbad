"""What the pages on history and on change points show is so."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_ptq.cli.app import COMMANDS
from pytest_ptq.judge.changes import PERMUTATIONS, SHORTEST, Change, change_points

DOCS = Path(__file__).parents[2] / "docs"
CHANGES = (DOCS / "changes.md").read_text(encoding="utf-8")
HISTORY = (DOCS / "history.md").read_text(encoding="utf-8")


def test_the_example_of_a_change_gives_what_is_written_below_it():
    (example,) = re.findall(r"```python\n(.*?)```", CHANGES, re.DOTALL)
    call, _, answer = example.partition("\n# ")
    names = {"change_points": change_points, "Change": Change}
    assert eval(call.splitlines()[-1], names) == eval(answer, names)  # noqa: S307 - our own page


def test_the_page_knows_what_the_code_does():
    assert f"{PERMUTATIONS} permutations" in CHANGES
    assert SHORTEST == 2
    assert "Two runs after a change\nare the fewest" in CHANGES


def test_how_soon_an_exact_step_is_told():
    def told(runs, after):
        return bool(change_points([1.0] * (runs - after) + [2.0] * after))

    assert [told(12, after) for after in (1, 2, 3)] == [False, False, True]
    assert [told(20, after) for after in (1, 2)] == [False, True]
    assert not any(told(10, after) for after in range(1, 10))


def test_every_command_that_is_shown_is_there():
    shown = set(re.findall(r"pytest-ptq ([a-z]+)", HISTORY)) - {"with"}
    assert shown <= set(COMMANDS), shown - set(COMMANDS)
    assert {"list", "compare", "history", "report", "baseline", "prune", "import", "noise", "show"} <= shown
