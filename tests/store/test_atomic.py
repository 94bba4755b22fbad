import os
import stat

import pytest

from pytest_ptq.store import atomic
from pytest_ptq.store.atomic import write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_made_and_replaced(tmp_path):
    path = tmp_path / "a.json"
    for text in ("one\n", "zwei äöü\n"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert names(tmp_path) == ["a.json"]


def test_permissions_follow_the_file_and_else_the_umask(tmp_path):
    path = tmp_path / "a.json"
    before = os.umask(0o022)
    try:
        write_text(path, "x")
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        path.chmod(0o664)
        write_text(path, "y")
        assert stat.S_IMODE(path.stat().st_mode) == 0o664
    finally:
        os.umask(before)


def fail(error):
    def raising(*_):
        raise error

    return raising


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_a_failure_at_any_step_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error, step):
    path = tmp_path / "a.json"
    path.write_text("old")
    monkeypatch.setattr(atomic.os, step, fail(error))
    with pytest.raises(type(error)):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_failing_rename_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "a.json", "new")
    assert names(tmp_path) == ["a.json"]


def test_text_that_cannot_be_encoded_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.json", "\ud800")
    assert names(tmp_path) == []
