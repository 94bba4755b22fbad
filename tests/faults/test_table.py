"""`docs/faults.md` names every test of a fault, and no test that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLE = (HERE.parents[1] / "docs" / "faults.md").read_text(encoding="utf-8")


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_table_and_the_tests_agree() -> None:
    elsewhere = re.findall(r"`(test_\w+)` in `(tests/[\w/]+\.py)`", TABLE)
    for name, path in elsewhere:
        assert name in functions_of(HERE.parents[1] / path)
    named = re.findall(r"`(test_\w+)`", TABLE)
    assert len(named) == len(set(named))
    there = set().union(*(functions_of(path) for path in HERE.glob("test_*.py") if path != Path(__file__).resolve()))
    assert set(named) - {name for name, _ in elsewhere} == there
