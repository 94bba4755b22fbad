"""Files that are either the old ones or the new ones, whenever the machine stops."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

LONGEST_STEM = 150
"""Bytes of a file's name that the names of its temporary files repeat; a longer one is hashed."""


def write_text(path: Path, text: str) -> None:
    """Replace the contents of `path` at once; its permissions stay. The folder has to exist.

    The text goes to a hidden file in the same folder, to the disk, and then to its name; on any failure, an interrupt
    included, that file is removed and `path` is as it was. What a killed writer of `path` left behind is removed by
    the next one. Raises OSError.
    """
    data = text.encode("utf-8")
    _remove_leftovers(path)
    with _temporary(path) as (temporary, descriptor):
        if path.exists():
            os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))
        _write_all(descriptor, data)
        os.fsync(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 - every step here is a call of `os`, which tests make fail
    _sync_folder(path.parent)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, int]]:
    """A new file beside `path`, locked while its writer lives, and removed if the block fails.

    The lock is how others tell a writer's file from one that was left behind: the kernel releases it when the writer
    dies, however it dies, and unlike a process id it is never somebody else's.
    """
    while True:
        temporary = path.with_name(f".{_stem(path)}.{uuid.uuid4().hex}.tmp")
        # Not `tempfile`: its files are private, and a baseline is to be as readable as the rest of the repository.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: then nobody removes leftovers on it
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0:  # taken for a leftover in the moment before it was locked
                continue
            yield temporary, descriptor
            return
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` whose writers are dead. What cannot be told or removed stays."""
    ours = re.compile(rf"\.{re.escape(_stem(path))}\.[0-9a-f]{{32}}\.tmp")
    with contextlib.suppress(OSError):
        for found in path.parent.iterdir():
            if ours.fullmatch(found.name):
                _remove_if_dead(found)


def _remove_if_dead(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        # Neither a link nor a pipe that somebody gave such a name is followed or waited for.
        descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink()
        finally:
            os.close(descriptor)


def _stem(path: Path) -> str:
    name = path.name
    return name if len(os.fsencode(name)) <= LONGEST_STEM else hashlib.sha256(os.fsencode(name)).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk too. Some file systems refuse; the contents are safe without."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
