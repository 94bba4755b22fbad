from datetime import UTC, datetime, timedelta

import pytest

from pytest_ptq.errors import StoreError
from pytest_ptq.store import history
from pytest_ptq.store.history import list_records, read_record, record_name, write_record
from pytest_ptq.store.record import RunRecord

START = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)


def record(seconds=0.0, **more):
    return RunRecord({"key": "k"}, {"torch": "2.15"}, (), time=START + timedelta(seconds=seconds), **more)


def test_a_record_is_found_again(tmp_path):
    made = record()
    path = write_record(tmp_path / "deep" / "history", made)
    assert read_record(path) == made
    assert list_records(path.parent) == [path]


def test_names_sort_by_time(tmp_path):
    steps = [0.000001, 3600, 0, 0.5, 1, 86400]
    paths = {step: write_record(tmp_path, record(step)) for step in steps}
    assert list_records(tmp_path) == [paths[step] for step in sorted(steps)]
    assert record_name(record(run_id="abc")) == "20260131T235959.000000Z-abc.json"


def test_runs_of_one_moment_do_not_meet(tmp_path):
    for _ in range(50):
        write_record(tmp_path, record())
    assert len(list_records(tmp_path)) == 50


def test_a_record_is_never_overwritten(tmp_path):
    write_record(tmp_path, record(run_id="abc"))
    with pytest.raises(StoreError, match="there already"):
        write_record(tmp_path, record(run_id="abc"))


def test_a_run_id_cannot_leave_the_folder(tmp_path):
    with pytest.raises(StoreError, match="cannot name a run"):
        write_record(tmp_path, record(run_id="../abc"))


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"cannot be written .* --ptq-history") as caught:
        write_record(tmp_path / "file" / "history", record())
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "write_text", full)
    with pytest.raises(StoreError, match="No space left"):
        write_record(tmp_path, record())
    assert list(tmp_path.iterdir()) == []


def test_reading_what_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        read_record(tmp_path / "none.json")
    assert list_records(tmp_path / "none") == []
