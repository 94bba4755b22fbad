"""docs/accuracy.md has the tables that the command prints; their figures are a matter of the machine."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.accuracy_cases import cases
from benchmarks.accuracy_text import BEGIN, END, GOAL_HEADS, HEADS
from benchmarks.rivals import RIVALS
from pytest_ptq.qconfig import PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "accuracy.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"### (\S+)\n(.*?)(?=\n### |\Z)", PAGE.partition(BEGIN)[2].partition(END)[0], flags=re.DOTALL))


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_suite_has_every_preset_and_every_rival() -> None:
    engines = [*(f"`{name}`" for name in PRESETS), *(rival.name for rival in RIVALS)]
    for case in cases():
        head, *rows = cells(PARTS[case.name])
        assert head == HEADS
        assert [line[0] for line in rows] == engines


def test_every_goal_is_answered_for_every_suite() -> None:
    head, *rows = cells(PARTS["Goals"])
    assert head == GOAL_HEADS
    assert [line[0] for line in rows] == [case.name for case in cases() for _ in range(3)]
    assert {line[-1] for line in rows} <= {"yes", "no", "not known"}
