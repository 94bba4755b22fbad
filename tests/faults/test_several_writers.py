"""Several runs that update one baseline at the same time."""

from __future__ import annotations

import subprocess
import time

import pytest

from faults.writer import KEY, update
from pytest_ptq.errors import BaselineError
from pytest_ptq.metrics import ACCURACY_DROP
from pytest_ptq.store import lock
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.lock import locked

WRITERS, TURNS = 8, 10


def test_eight_writers_lose_nothing_and_tear_nothing(path, writer):
    processes = [writer(f"q{i}", "none", "SIGKILL", str(TURNS)) for i in range(WRITERS)]
    while any(process.poll() is None for process in processes):
        Baselines.read(path)  # whole at any moment
        time.sleep(0.002)
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    found = Baselines.read(path)
    assert sorted(found.names("embedded")) == ["old", *(f"q{i}" for i in range(WRITERS))]
    for i in range(WRITERS):
        assert found.recorded("embedded", KEY, f"q{i}", ACCURACY_DROP).value == TURNS
    assert [entry.name for entry in path.parent.iterdir()] == ["net.json"]


def test_writers_of_a_new_file_all_find_their_changes_in_it(path, writer):
    path.unlink()
    processes = [writer(f"q{i}") for i in range(WRITERS)]
    for process in processes:
        process.communicate(timeout=60)
    assert sorted(Baselines.read(path).names("embedded")) == [f"q{i}" for i in range(WRITERS)]


def test_a_change_is_made_to_the_file_as_it_is_by_then(path):
    # Somebody removes a qconfig and sets a limit after this run read the file.
    assert "old" in Baselines.read(path).names("embedded")
    path.write_text('{"schema": 2, "suite": "net", "data": {"embedded": {"limits": {"new": {"accuracy_drop_pp": 5}}}}}')
    found = update(path, "new").after
    assert list(found.names("embedded")) == ["new"]
    assert found.limit("embedded", "new", ACCURACY_DROP).bound == 5


def test_whoever_waits_too_long_is_told_and_changes_nothing(path, monkeypatch):
    monkeypatch.setattr(lock, "TIMEOUT_S", 0.05)
    before = path.read_text()
    with locked(path.parent), pytest.raises(BaselineError, match="another process has been writing") as caught:
        update(path, "new")
    assert "Nothing was changed" in caught.value.remedy
    assert str(path.parent) in caught.value.place
    assert path.read_text() == before
    update(path, "new")


def test_the_lock_is_free_again_whatever_ended_its_holder(path, writer, monkeypatch):
    holder = writer("new", "change", "SIGSTOP")
    monkeypatch.setattr(lock, "TIMEOUT_S", 0.0)
    while not _is_held(path):
        assert holder.poll() is None
        time.sleep(0.01)
    holder.kill()
    holder.wait()
    update(path, "next")
    assert [entry.name for entry in path.parent.iterdir()] == ["net.json"]


def _is_held(path):
    try:
        with locked(path.parent):
            return False
    except BaselineError:
        return True


def test_a_child_of_a_writer_does_not_keep_the_lock(path):
    with locked(path.parent):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with locked(path.parent, timeout_s=0.0):
            pass
    finally:
        child.kill()
        child.wait()


def test_readers_never_wait(path):
    with locked(path.parent):
        assert Baselines.read(path).suite == "net"
