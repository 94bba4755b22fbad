"""The tables of change points and of histories: that they count what they say."""

from __future__ import annotations

import pytest

from benchmarks import changes, history
from benchmarks.changes_rivals import potts, single_splits
from pytest_ptq.judge.changes import change_points


@pytest.mark.parametrize("method", changes.METHODS.values(), ids=list(changes.METHODS))
def test_every_method_finds_what_nobody_could_miss(method):
    assert list(method([0.0, 0.1] * 15 + [9.0, 9.1] * 15)) == [30]
    assert list(method([1.0] * 30)) == []


def test_the_rivals_are_what_they_are_called():
    assert single_splits([0.0, 0.1] * 10 + [5.0, 5.1] * 10 + [9.0, 9.1] * 10) == [20, 40]
    assert {20, 40} <= set(potts([0.0, 0.1] * 10 + [50.0, 50.1] * 10 + [0.0, 0.1] * 10))


def test_the_tables_count(monkeypatch):
    monkeypatch.setattr(changes, "SERIES", 4)
    monkeypatch.setattr(changes, "PLANTED", 4)
    monkeypatch.setattr(changes, "RUNS", 24)
    monkeypatch.setattr(changes, "NOISES", {"normal": changes.NOISES["normal"]})
    monkeypatch.setattr(
        changes, "METHODS", {"always": lambda values: [0], "ours": lambda v: [c.index for c in change_points(v)]}
    )
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in changes.table().splitlines()
        if line.startswith("|")
    ]
    noise = [row for row in rows if row[0] == "normal"]
    assert [row[1] for row in noise] == ["30", "24"]
    assert all(row[2].startswith("100.0 %") for row in noise)
    (step,) = [row for row in rows if row[0] == "4 sd"]
    assert step[1].startswith("0.0 %"), "told where it is not"
    assert step[2].startswith("100.0 %")


def test_a_history_is_timed_in_every_state():
    told = history.table(["--runs", "5"])
    assert told.startswith("5 records of 2 qconfigs")
    assert len([line for line in told.splitlines() if line.startswith("|")]) == 2 + 6
