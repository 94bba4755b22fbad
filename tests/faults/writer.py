"""A process that updates `net.json` in the working folder, and is stopped where a test wants it.

python writer.py QCONFIG STEP HOW [TIMES]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from pytest_ptq.metrics import ACCURACY_DROP, SIZE_REDUCTION, Measurement
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.update import update_file

KEY = "avx2/onednn/2t/torch2.15"
STEPS = ("change", "before-open", "after-open", "mid-write", "before-fsync", "before-rename", "after-rename")


def change(qconfig, value=1.0):
    """What each writer has to say: a limit and two records of one qconfig."""

    def changed(baselines):
        found = [Measurement(ACCURACY_DROP, value), Measurement(SIZE_REDUCTION, 3.0 + value)]
        limited = baselines.with_limits("embedded", qconfig, {ACCURACY_DROP: 9.0}, "review")
        return limited.with_recorded("embedded", KEY, qconfig, found)

    return changed


def update(path, qconfig, value=1.0):
    return update_file(Baselines.empty(path), change(qconfig, value))


def stop_at(step, stop, patch=setattr):
    """Call `stop` when the writer comes to `step`; `patch` replaces functions of `os`."""
    make, write, replace = os.open, os.write, os.replace

    def opening(path, flags, *rest, **more):
        if not flags & os.O_CREAT:
            return make(path, flags, *rest, **more)
        if step == "before-open":
            stop()
        descriptor = make(path, flags, *rest, **more)
        if step == "after-open":
            stop()
        return descriptor

    def half(descriptor, data):
        write(descriptor, bytes(data)[: len(data) // 2])
        stop()
        raise AssertionError("the writer was not stopped")

    def renaming(*names):
        if step == "before-rename":
            stop()
        replace(*names)
        if step == "after-rename":
            stop()

    def syncing(descriptor):
        stop()

    patches = {
        "mid-write": ("write", half),
        "before-fsync": ("fsync", syncing),
        "before-rename": ("replace", renaming),
        "after-rename": ("replace", renaming),
    }
    if step != "change":
        patch(os, *patches.get(step, ("open", opening)))


def main(qconfig, step="none", how="SIGKILL", times="1"):
    path = Path("net.json").absolute()
    mine = change(qconfig)

    def stop():
        signal.raise_signal(signal.Signals[how])

    def stopping(baselines):
        stop()
        return mine(baselines)

    if step != "none":
        stop_at(step, stop)
    for turn in range(int(times)):
        update_file(Baselines.empty(path), stopping if step == "change" else change(qconfig, 1.0 + turn))


if __name__ == "__main__":
    main(*sys.argv[1:])
