"""One writer at a time in a folder, whoever else is at work on the same machine."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pytest_ptq.errors import BaselineError

TIMEOUT_S = 60.0
"""Longest wait; a writer holds the lock for well below a second."""

POLL_S = 0.02


@contextlib.contextmanager
def locked(folder: Path, timeout_s: float | None = None) -> Iterator[None]:
    """Hold the exclusive lock on `folder`, which has to exist, while the block runs.

    The lock is on the folder itself: there is no lock file to be left behind, committed or removed by mistake, and
    the kernel releases it when its holder ends, however it ends. It holds among the processes of one machine.

    Args:
        folder: the folder.
        timeout_s: how long to wait, in seconds; None means TIMEOUT_S.

    Raises:
        BaselineError: somebody else held it all that time, or the file system has no locks.
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _wait(descriptor, folder, TIMEOUT_S if timeout_s is None else timeout_s)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, folder: Path, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EINTR):
                message = f"the folder cannot be locked ({error.strerror})"
                remedy = "Nothing was changed. Update on a local disk with --ptq-baseline-dir, and copy the file."
                raise BaselineError(message, place=str(folder), remedy=remedy) from error
        else:
            return
        if time.monotonic() >= end:
            raise BaselineError(
                f"another process has been writing baselines there for {timeout_s:g} s",
                place=str(folder),
                remedy="Nothing was changed. End that process (`fuser` names it) or wait for it, and update again.",
            )
        time.sleep(POLL_S)
