"""A writer that dies or is interrupted: the file is the old or the new one, and nothing is in the next one's way."""

from __future__ import annotations

import fcntl
import os
import signal

import pytest

from faults.writer import KEY, STEPS, change, stop_at, update
from pytest_ptq.metrics import ACCURACY_DROP
from pytest_ptq.store import lock
from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.update import update_file


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def qconfigs(path):
    return sorted(Baselines.read(path).names("embedded"))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_killed_at_any_step(path, writer, step, how, monkeypatch):
    before = path.read_text()
    process = writer("new", step, how)
    process.communicate(timeout=60)
    assert process.returncode == -signal.Signals[how]
    if step == "after-rename":
        assert qconfigs(path) == ["new", "old"]
    else:
        assert path.read_text() == before
    # Whoever comes next neither waits for the dead nor keeps what they left behind.
    monkeypatch.setattr(lock, "TIMEOUT_S", 0.0)
    update(path, "next")
    assert {"next", "old"} <= set(qconfigs(path))
    assert names(path.parent) == ["net.json"]


def test_what_a_killed_writer_leaves_is_hidden_and_named_after_its_file(path, writer):
    writer("new", "mid-write").communicate(timeout=60)
    (left,) = set(names(path.parent)) - {"net.json"}
    assert left.startswith(".net.json.")
    assert left.endswith(".tmp")
    assert path.with_name(left).read_text() != ""


@pytest.mark.parametrize("step", STEPS)
def test_interrupted_at_any_step(path, monkeypatch, step):
    before = path.read_text()

    def stop():
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        stop_at(step, stop, patched.setattr)
        with pytest.raises(KeyboardInterrupt):
            update_file(Baselines.empty(path), (lambda _: stop()) if step == "change" else change("new"))
    assert path.read_text() == before or step == "after-rename"
    update(path, "next")
    assert names(path.parent) == ["net.json"]


def leftover(path, digit="0"):
    return path.with_name(f".{path.name}.{digit * 32}.tmp")


def test_a_living_writers_file_is_never_removed(path):
    # Another file description with the lock is what another process has.
    alive, dead = leftover(path, "a"), leftover(path, "b")
    dead.write_text("half")
    with alive.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        update(path, "new")
        assert alive.exists()
        assert not dead.exists()
    update(path, "next")
    assert names(path.parent) == ["net.json"]


@pytest.mark.parametrize(
    "name",
    [f".other.json.{'0' * 32}.tmp", f".net.json.bak.{'0' * 32}.tmp", ".net.json.tmp", f"net.json.{'0' * 32}.tmp"],
)
def test_only_this_files_leftovers_are_removed(path, name):
    path.with_name(name).write_text("x")
    update(path, "new")
    assert path.with_name(name).exists()


def test_what_only_has_a_leftovers_name_is_left_alone(path):
    victim = path.with_name("victim")
    victim.write_text("x")
    link, pipe, folder = leftover(path, "a"), leftover(path, "b"), leftover(path, "c")
    link.symlink_to(victim)
    os.mkfifo(pipe)
    folder.mkdir()
    update(path, "new")
    assert victim.read_text() == "x"
    assert link.is_symlink()
    assert pipe.exists()
    assert folder.is_dir()


def test_a_file_taken_for_a_leftover_at_its_birth_is_made_again(path, monkeypatch):
    real, taken = fcntl.flock, []

    def late(descriptor, how):
        # Between its creation and its lock, somebody else saw no lock on it and removed it.
        if how == fcntl.LOCK_EX and not taken:
            taken.extend(path.parent.glob(".net.json.*.tmp"))
            taken[0].unlink()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert taken
    assert names(path.parent) == ["net.json"]


def test_a_file_system_without_locks_still_writes_whole_files(path, monkeypatch):
    leftover(path).write_text("x")

    def refuse(descriptor, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert leftover(path).exists()  # nobody can tell whose it is


def test_a_long_name_leaves_no_less_room(tmp_path):
    path = tmp_path / ("n" * 250)
    leftover_name = None
    for text in ("one", "two"):
        write_text(path, text)
        assert path.read_text() == text
        leftover_name = leftover_name or names(tmp_path)
    assert names(tmp_path) == [path.name]


def test_what_was_recorded_before_a_kill_is_there_after_it(path, writer):
    for step in STEPS:
        writer("new", step).communicate(timeout=60)
        assert Baselines.read(path).recorded("embedded", KEY, "old", ACCURACY_DROP).value == 1.0
