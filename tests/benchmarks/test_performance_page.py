"""docs/performance.md holds tables that its commands made, with goals and the machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.goal import HEADS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def part(name: str) -> str:
    found = re.search(rf"<!-- {name}: begin -->(.*)<!-- {name}: end -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"no block named {name}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|-")]


@pytest.mark.parametrize("name", ["latency", "limit", "calibration", "overhead", "scaling"])
def test_every_block_has_goals_and_says_what_made_it(name: str) -> None:
    text = part(name)
    _, _, goals = text.partition("### Goals")
    head, *lines = rows(goals)
    assert head == list(HEADS)
    assert lines
    assert {line[-1] for line in lines} <= {"yes", "no", "not known"}
    assert re.search(rf"torch \d+\.\d+.*, `python -m benchmarks {name}`\.", text), "no machine"
    assert "measured with earlier sources" not in text
