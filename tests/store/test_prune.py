"""Pruning: by age, by number, and never what a baseline may have been recorded from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pytest_ptq.errors import StoreError, UsageError
from pytest_ptq.metrics import FLIPS, Measurement
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.history import list_records, open_history, write_record
from pytest_ptq.store.provenance import Provenance
from pytest_ptq.store.prune import plan_pruning, remove
from pytest_ptq.store.record import QConfigRecord, RunRecord

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAYS = 10


def record(day, machine="k", suite="net", qconfig="x86", commit=None, hour=0):
    result = QConfigRecord(suite, "embedded", qconfig, None, {FLIPS.key: Measurement(FLIPS, 1.0)})
    time = START + timedelta(days=day, hours=hour)
    return RunRecord({"key": machine}, {}, (result,), time=time, commit=commit or f"c{day}")


def baseline(date="2026-01-03", commit="c2", machine="k", suite="net", qconfig="x86", data="embedded"):
    origin = Provenance(date, commit, "torch 2.15.0")
    measured = [Measurement(FLIPS, 1.0)]
    return Baselines.empty(Path(f"{suite}.json")).with_recorded(data, machine, qconfig, measured, origin)


@pytest.fixture
def folder(tmp_path):
    for day in range(DAYS):
        write_record(tmp_path, record(day))
    return tmp_path


def days(entries):
    return [(entry.digest.time - START).days for entry in entries]


def planned(folder, *baselines, **more):
    found = plan_pruning(open_history(folder), baselines, **more)
    return days(found.removed), days(found.referred)


def test_the_newest_stay(folder):
    assert planned(folder, keep=4) == ([0, 1, 2, 3, 4, 5], [])
    assert planned(folder, keep=0) == ([*range(10)], [])
    assert planned(folder, keep=10) == planned(folder, keep=99) == ([], [])


def test_the_young_stay(folder):
    now = START + timedelta(days=9)
    assert planned(folder, older_than=timedelta(days=6), now=now) == ([0, 1, 2], [])
    assert planned(folder, older_than=timedelta(days=6), now=now, keep=5) == ([0, 1, 2, 3, 4], [])
    assert planned(folder, older_than=timedelta(days=2), now=now, keep=9) == ([0, 1, 2, 3, 4, 5, 6], [])


def test_what_a_baseline_refers_to_stays(folder):
    assert planned(folder, baseline(), keep=0) == ([0, 1, 3, 4, 5, 6, 7, 8, 9], [2])
    assert planned(folder, baseline(), baseline(date="2026-01-06", commit="c5"), keep=0)[1] == [2, 5]


def test_what_is_kept_anyway_is_not_counted_as_referred(folder):
    assert planned(folder, baseline(date="2026-01-10", commit="c9"), keep=3)[1] == []


@pytest.mark.parametrize(
    "other",
    [
        {"commit": "c3"},
        {"date": "2026-01-05"},
        {"date": "2026-01-02"},
        {"machine": "other"},
        {"suite": "other"},
        {"qconfig": "minmax"},
        {"data": "imagenet"},
    ],
)
def test_what_differs_refers_to_another_run(folder, other):
    assert planned(folder, baseline(**other), keep=0)[1] == []


def test_a_commit_that_nobody_knows_lets_no_run_go(folder):
    assert planned(folder, baseline(commit=None), keep=0)[1] == [1, 2]


def test_a_run_past_midnight_is_referred_to_by_the_next_day(folder):
    write_record(folder, record(2, hour=11, commit="night"))
    assert planned(folder, baseline(date="2026-01-04", commit="night"), keep=0)[1] == [2]


def test_a_value_without_a_date_refers_to_nothing(folder):
    text = baseline().text.replace('"date": "2026-01-03",', "")
    assert planned(folder, Baselines.parse(text, Path("net.json")), keep=0)[1] == []
    text = baseline().text.replace("2026-01-03", "some day")
    assert planned(folder, Baselines.parse(text, Path("net.json")), keep=0)[1] == []


def test_removing_leaves_the_others_alone(folder):
    (folder / "damaged.json").write_text("{")
    (folder / "other.txt").write_text("x")
    plan = plan_pruning(open_history(folder), [baseline()], keep=3)
    plan.removed[0].path.unlink()
    remove(plan)
    history = open_history(folder)
    assert days(history.entries) == [2, 7, 8, 9]
    assert len(list_records(folder)) == 5
    assert (folder / "other.txt").exists()


def test_a_file_that_cannot_be_removed_is_a_sentence(folder, monkeypatch):
    plan = plan_pruning(open_history(folder), [], keep=3)

    def refuse(path, missing_ok):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StoreError, match="cannot be removed"):
        remove(plan)
    assert len(list_records(folder)) == DAYS


def test_nothing_is_pruned_by_default(folder):
    with pytest.raises(UsageError, match="nothing says"):
        plan_pruning(open_history(folder), [])


def test_a_result_is_known_by_its_own_machine_key(folder):
    kept = record(2)
    write_record(folder, replace(kept, results=(replace(kept.results[0], machine_key="other"),)))
    plan = plan_pruning(open_history(folder), [baseline(machine="other")], keep=0)
    assert [entry.digest.run_id for entry in plan.referred] == [kept.run_id]
    assert planned(folder, baseline(machine="k"), keep=0)[1] == [2], "the run of that day with torch alone"
