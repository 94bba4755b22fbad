"""Opening a history: only what is new is read, and an index of whatever state changes no answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pytest_ptq.errors import StoreError
from pytest_ptq.metrics import FLIPS, SQNR, Judgement, Limit, Measurement, Verdict
from pytest_ptq.store import history as module
from pytest_ptq.store import index
from pytest_ptq.store.history import open_history, record_name, write_record
from pytest_ptq.store.record import QConfigRecord, RunRecord
from pytest_ptq.store.series import collect_series

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2026, 1, 31, tzinfo=UTC)


def record(day, value=1.0, machine="k", suite="net"):
    measured = {m.key: Measurement(m, value, value - 1, value + 1) for m in (FLIPS, SQNR)}
    judged = Judgement(Verdict.FAIL, measured[FLIPS.key], Limit(FLIPS, 0.5, "here"), "why", Measurement(FLIPS, 0.1))
    result = QConfigRecord(suite, "embedded", "x86", None, measured, {FLIPS.key: judged}, errors=("e",))
    names = {"commit": f"c{day}", "branch": "main", "commit_subject": f"Day {day}"}
    return RunRecord({"key": machine}, {}, (result,), time=START + timedelta(days=day), **names)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were read."""
    seen = []
    real = module.read_text
    monkeypatch.setattr(module, "read_text", lambda path: (seen.append(path.name), real(path))[1])
    return seen


@pytest.fixture
def folder(tmp_path):
    for day in range(20):
        write_record(tmp_path, record(day, float(day)))
    settle()
    return tmp_path


def settle():
    time.sleep(1.2 * index.SETTLED_NS / 1e9)


def seen(folder):
    history = open_history(folder)
    return history.entries, history.problems, history.series()


def test_what_was_read_is_not_read_again(folder, reads):
    first = seen(folder)
    assert len(reads) == 20
    del reads[:]
    assert seen(folder) == first
    assert reads == []


def test_one_more_run_costs_one_file(folder, reads):
    open_history(folder)
    del reads[:]
    path = write_record(folder, record(20))
    assert len(open_history(folder)) == 21
    assert reads == [path.name]


def test_the_index_is_not_written_for_every_run(folder, monkeypatch, reads):
    monkeypatch.setattr(module, "REWRITTEN_FROM", 0.1)
    open_history(folder)
    written = (folder / index.NAME).read_bytes()
    for day in (20, 21, 22):
        write_record(folder, record(day))
        settle()
        del reads[:]
        assert len(open_history(folder)) == day + 1
        assert len(reads) == day - 19, "those that the index does not know"
        assert ((folder / index.NAME).read_bytes() == written) == (day < 22)
    del reads[:]
    open_history(folder)
    assert reads == []


def test_a_history_says_what_its_records_say(folder):
    records = [module.read_record(path) for path in module.list_records(folder)]
    for _ in range(2):  # read from the files, and from the index
        history = open_history(folder)
        assert list(history) == records
        assert history.series() == collect_series(records)
        digest = history.entries[3].digest
        assert (digest.commit, digest.branch, digest.subject, digest.machine) == ("c3", "main", "Day 3", "k")
        assert (digest.errors, digest.suites, digest.verdicts) == (1, ("net",), (Verdict.FAIL,))
        assert history[-1] == records[-1]
        assert history[2:4] == records[2:4]


def test_series_of_one_suite_and_one_metric(folder):
    write_record(folder, record(30, suite="other"))
    history = open_history(folder)
    assert {key.suite for key in history.series()} == {"net", "other"}
    (key,) = history.series(suite="net", metrics=[SQNR.key])
    assert (key.suite, key.metric) == ("net", SQNR.key)


def damage(kind, path):
    text = path.read_text()
    changed = {
        "gone": None,
        "empty": "",
        "binary": None,
        "half": text[: len(text) // 2],
        "another value": text.replace("0.5,0.1", "0.5,0.2"),
        "another version": text.replace("index 3", "index 0"),
        "no JSON": "nonsense",
        "JSON of another form": f"{index._heading('[1]')}\n[1]",
        "keys are missing": f"{index._heading('{}')}\n{{}}",
    }[kind]
    if kind == "binary":
        path.write_bytes(b"\xff\xfe\x00" * 100)
    elif changed is None:
        path.unlink()
    else:
        assert changed != text
        path.write_text(changed)


@pytest.mark.parametrize(
    "kind",
    [
        "gone",
        "empty",
        "binary",
        "half",
        "another value",
        "another version",
        "no JSON",
        "JSON of another form",
        "keys are missing",
    ],
)
def test_a_damaged_index_changes_no_answer(folder, reads, kind):
    before = seen(folder)
    damage(kind, folder / index.NAME)
    del reads[:]
    assert seen(folder) == before
    assert len(reads) == 20
    del reads[:]
    assert seen(folder) == before
    assert reads == [], "it was written anew"


def test_a_stale_index_changes_no_answer(folder):
    open_history(folder)
    old = (folder / index.NAME).read_bytes()
    first, second, third = module.list_records(folder)[:3]
    first.unlink()
    changed = replace(module.read_record(second), commit="another")
    second.write_text(changed.to_json())
    third.rename(folder / f"0{third.name}")
    write_record(folder, record(50))
    (folder / index.NAME).unlink()
    right = seen(folder)
    (folder / index.NAME).write_bytes(old)
    assert seen(folder) == right
    assert "another" in {entry.digest.commit for entry in right[0]}


def test_an_edit_that_keeps_size_and_time_is_seen(folder):
    open_history(folder)
    path = module.list_records(folder)[0]
    was = path.stat()
    path.write_text(path.read_text().replace('"c0"', '"d0"'))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size
    assert open_history(folder).entries[0].digest.commit == "d0"


def test_a_file_changed_a_moment_ago_is_not_remembered(folder, monkeypatch):
    monkeypatch.setattr(index, "SETTLED_NS", 10**12)
    open_history(folder)
    assert index.read_index(folder) == {}


def test_an_index_of_another_folder_is_not_believed(folder, tmp_path, reads):
    open_history(folder)
    other = tmp_path.with_name("other")
    shutil.copytree(folder, other)
    del reads[:]
    assert len(open_history(other)) == 20
    assert len(reads) == 20


def test_histories_are_merged_by_copying(tmp_path):
    here, there = tmp_path / "a", tmp_path / "b"
    for day in range(3):
        write_record(here, record(day))
        write_record(there, record(day, machine="other"))
    for path in module.list_records(there):
        shutil.copy(path, here)
    shutil.copy(module.list_records(here)[0], here / "twice.json")
    history = open_history(here)
    assert len(history) == 6
    assert [entry.digest.time for entry in history.entries] == sorted(entry.digest.time for entry in history.entries)
    assert {len(points) for points in history.series().values()} == {3}


def test_what_is_no_record_is_told_and_takes_nothing_along(folder):
    (folder / "damaged.json").write_text('{"schema": 2')
    (folder / "other.json").write_text('{"benchmarks": []}')
    (folder / "newer.json").write_text('{"schema": 99}')
    (folder / ".hidden.json").write_text("x")
    (folder / "notes.txt").write_text("x")
    (folder / "folder.json").mkdir()
    for _ in range(2):
        history = open_history(folder)
        assert len(history) == 20
        told = sorted(problem.partition(": ")[2].rpartition("/")[2][:12] for problem in history.problems)
        assert told == ["damaged.json", "newer.json: ", "other.json: "]


def test_a_folder_that_is_not_there_has_no_history(tmp_path):
    assert len(open_history(tmp_path / "none")) == 0
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be listed"):
        open_history(tmp_path / "file")


def test_a_folder_that_is_read_only_is_read(folder):
    # In a process of its own, because root, who may write everywhere, has to become somebody else for it.
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pytest_ptq.store.history import open_history\n"
        "open_history(Path('none'))  # so that all modules are there before the folder of Python may be shut\n"
        "os.chmod('.', 0o555)\n"
        "if os.geteuid() == 0:\n"
        "    os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "try:\n"
        "    Path('new').touch()\n"
        "except PermissionError:\n"
        "    sys.exit(len(open_history(Path('.'))))\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    before = {path.name for path in folder.iterdir()}
    try:
        done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=False, timeout=60)
    finally:
        folder.chmod(0o755)
    assert done.returncode == 20
    assert {path.name for path in folder.iterdir()} == before, "nor was an index written"


def test_an_index_that_cannot_be_written_is_no_trouble(folder, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index, "write_text", full)
    assert len(open_history(folder)) == 20
    assert not (folder / index.NAME).exists()


def test_a_record_that_is_gone_by_now_is_a_sentence(folder):
    history = open_history(folder)
    history.entries[0].path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        history[0]


WRITER = """
import sys
from pathlib import Path
from pytest_ptq.store.history import open_history, write_record
from pytest_ptq.store.record import RunRecord
for number in range(25):
    write_record(Path(sys.argv[1]), RunRecord({"key": "k"}, {}, ()))
    assert len(open_history(Path(sys.argv[1]))) > number
    assert not open_history(Path(sys.argv[1])).problems
"""


def test_writers_and_readers_at_the_same_time_lose_nothing(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    history = open_history(tmp_path)
    assert (len(history), history.problems) == (100, ())
    assert all(entry.path.name == record_name(run) for entry, run in zip(history.entries, history, strict=True))
    left = {path.name for path in tmp_path.iterdir()} - {entry.path.name for entry in history.entries}
    assert left <= {index.NAME}


def test_the_index_keeps_the_machine_key_of_each_result(tmp_path, reads):
    one = record(0)
    own = replace(one.results[0], qconfig="x86-openvino", machine_key="k/openvino")
    write_record(tmp_path, replace(one, results=(*one.results, own)))
    settle()
    first = open_history(tmp_path).series()
    reads.clear()
    again = open_history(tmp_path).series()
    assert reads == []
    assert again == first
    assert {(key.qconfig, key.machine) for key in again} == {("x86", "k"), ("x86-openvino", "k/openvino")}
