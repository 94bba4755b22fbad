"""Disks that are full, folders that are read-only, files that are links: the old file stays, in one sentence."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from faults.conftest import ROOT
from faults.writer import STEPS, stop_at, update
from pytest_ptq.errors import BaselineError, StoreError
from pytest_ptq.store import lock
from pytest_ptq.store.baselines import LARGEST_BYTES, Baselines
from pytest_ptq.store.history import write_record
from pytest_ptq.store.record import RunRecord

CODES = ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES"]


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def failing(code):
    number = getattr(errno, code)

    def stop(*_, **__):
        raise OSError(number, os.strerror(number))

    return stop


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("step", [step for step in STEPS if step not in ("change", "after-open", "after-rename")])
def test_a_write_that_fails_at_any_step(path, monkeypatch, step, code):
    before = path.read_text()
    with monkeypatch.context() as patched:
        stop_at(step, failing(code), patched.setattr)
        with pytest.raises(BaselineError, match="cannot be written") as caught:
            update(path, "new")
    assert os.strerror(getattr(errno, code)) in str(caught.value)
    assert "Nothing was changed" in caught.value.remedy
    assert caught.value.place == "net.json"
    assert path.read_text() == before
    assert names(path.parent) == ["net.json"]
    update(path, "new")
    assert "new" in Baselines.read(path).names("embedded")


def test_a_disk_that_is_full_in_the_middle_of_a_real_write(path):
    # A limit on the size of files stands in for a full disk: the kernel writes as much as fits, then refuses.
    before = path.read_text()
    script = (
        "import resource, signal, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from pathlib import Path\n"
        "from faults.writer import update\n"
        "from pytest_ptq.errors import BaselineError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    update(Path('net.json').absolute(), 'new')\n"
        "except BaselineError as error:\n"
        "    sys.exit(7 if 'File too large' in str(error) else str(error))\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=path.parent, env=environment, check=False, timeout=60)
    assert done.returncode == 7
    assert path.read_text() == before
    assert names(path.parent) == ["net.json"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100


@pytest.mark.parametrize("step", ["before-open", "mid-write", "before-fsync", "before-rename"])
def test_a_run_record_that_cannot_be_written(tmp_path, monkeypatch, step):
    record = RunRecord({"key": "k"}, {}, (), time=datetime(2026, 1, 31, tzinfo=UTC))
    with monkeypatch.context() as patched:
        stop_at(step, failing("ENOSPC"), patched.setattr)
        with pytest.raises(StoreError, match="No space left"):
            write_record(tmp_path, record)
    assert names(tmp_path) == []


def test_a_folder_that_is_read_only(path):
    # In a process of its own, because root, who may write everywhere, has to become somebody else for it.
    script = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from pathlib import Path\n"
        "from faults.writer import update\n"
        "from pytest_ptq.errors import BaselineError\n"
        "update(Path('net.json'), 'old')\n"  # so that all modules are there before the folder of Python may be shut
        "os.chmod('.', 0o555)\n"
        "if os.geteuid() == 0:\n"
        "    os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "try:\n"
        "    update(Path('net.json'), 'new')\n"
        "except BaselineError as error:\n"
        "    told = 'cannot be written (Permission denied). Nothing was changed' in str(error)\n"
        "    sys.exit(7 if told else str(error))\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    before = path.read_text()
    try:
        done = subprocess.run([sys.executable, "-c", script], cwd=path.parent, env=environment, check=False, timeout=60)
    finally:
        path.parent.chmod(0o755)
    assert done.returncode == 7
    assert path.read_text() == before
    assert names(path.parent) == ["net.json"]


def test_a_folder_that_cannot_be_made(path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", failing("EROFS"))
        with pytest.raises(BaselineError, match=r"cannot be written \(Read-only file system\)"):
            update(path.parent / "new" / "net.json", "new")
    assert names(path.parent) == ["net.json"]


@pytest.mark.parametrize("where", ["open", "flock"])
def test_a_folder_that_cannot_be_opened_or_locked(path, monkeypatch, where):
    before = path.read_text()
    owner = {"open": os, "flock": lock.fcntl}[where]
    with monkeypatch.context() as patched:
        patched.setattr(owner, where, failing("EACCES"))
        with pytest.raises(BaselineError, match=r"cannot be (written|locked) \(Permission denied\)\. Nothing was"):
            update(path, "new")
    assert path.read_text() == before
    assert names(path.parent) == ["net.json"]


def test_a_link_is_refused_and_its_target_kept(path):
    target = path.with_name("target.json")
    path.rename(target)
    before = target.read_text()
    path.symlink_to(target)
    with pytest.raises(BaselineError, match="is a symbolic link"):
        update(path, "new")
    assert target.read_text() == before
    assert path.is_symlink()


def test_a_link_to_nothing_is_refused_too(path):
    path.unlink()
    path.symlink_to("absent.json")
    with pytest.raises(BaselineError, match="is a symbolic link"):
        update(path, "new")
    assert names(path.parent) == ["net.json"]


def test_a_link_that_appears_while_waiting_is_refused(path, monkeypatch):
    target = path.with_name("target.json")
    real = lock._wait

    def waiting(*arguments):
        real(*arguments)
        path.rename(target)
        path.symlink_to(target)

    before = path.read_text()
    monkeypatch.setattr(lock, "_wait", waiting)
    with pytest.raises(BaselineError, match="is a symbolic link"):
        update(path, "new")
    assert target.read_text() == before


def test_a_linked_folder_is_the_folder(path, tmp_path_factory):
    link = tmp_path_factory.mktemp("elsewhere") / "baselines"
    link.symlink_to(path.parent)
    update(link / "net.json", "new")
    assert "new" in Baselines.read(path).names("embedded")


def test_a_damaged_file_is_not_written_over(path):
    path.write_text('{"schema": 2,')
    with pytest.raises(BaselineError, match="truncated"):
        update(path, "new")
    assert path.read_text() == '{"schema": 2,'


def test_a_newer_file_is_not_written_over(path):
    text = path.read_text().replace('"schema": 2', '"schema": 3')
    path.write_text(text)
    with pytest.raises(BaselineError, match="comes from a newer pytest-ptq"):
        update(path, "new")
    assert path.read_text() == text


def test_a_file_too_large_to_be_a_baseline(path):
    with path.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(BaselineError, match="larger than 16 MiB"):
        Baselines.read(path)
