"""What was read of the files in a history, kept in one file: a cache that may be deleted, damaged or old at any time.

An entry is believed about one very file: the one of its name with the same inode, size, and times of writing and of
change, to the nanosecond. Copying, touching, editing or replacing a file changes one of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
import zlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.digest import Digest

NAME = ".index"
FORMAT = "pytest-ptq history index 2"

Stamp: TypeAlias = tuple[int, int, int, int]
"""What tells one very file from all others: inode, bytes, mtime and ctime in ns."""
SETTLED_NS = 100_000_000
"""A file that was changed a moment ago may be changed again within the same tick of the clock that stamps files, some
ms, and look the same: it is remembered by whoever looks later."""
Index: TypeAlias = Mapping[str, tuple[Stamp, Digest]]
"""By the name of the file."""


def stamps(folder: Path) -> dict[str, Stamp]:
    """Of all that may be records; nothing when there is no such folder. Raises OSError."""
    found: dict[str, Stamp] = {}
    try:
        listing = os.scandir(folder)
    except FileNotFoundError:
        return found
    with listing:
        for file in listing:
            if file.name.endswith(".json") and not file.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # removed by somebody in this moment
                    seen = file.stat()
                    if not stat.S_ISDIR(seen.st_mode):
                        found[file.name] = (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    return found


def read_index(folder: Path) -> dict[str, tuple[Stamp, Digest]]:
    """What was remembered; nothing where the index is missing, damaged or of another version."""
    try:
        first, _, text = (folder / NAME).read_text(encoding="utf-8").partition("\n")
        if first != _heading(text):
            return {}
        tree = json.loads(text)
        keys = [tuple(key) for key in tree["keys"]]
        return {name: (_stamp(stamp), _digest(plain, keys)) for name, (stamp, plain) in tree["files"].items()}
    # Whatever a file that is no index of ours makes this stumble over: it is as good as none.
    except Exception:
        return {}


def write_index(folder: Path, index: Index) -> None:
    """Remember `index`, at once or not at all. A folder that cannot be written to is read again next time."""
    keys: dict[tuple[str, ...], int] = {}
    latest = time.time_ns() - SETTLED_NS
    settled = {name: entry for name, entry in index.items() if max(entry[0][2:]) < latest}
    files = {name: [stamp, _plain(digest, keys)] for name, (stamp, digest) in settled.items()}
    with contextlib.suppress(OSError, ValueError):
        text = json.dumps({"keys": list(keys), "files": files}, allow_nan=False, separators=(",", ":"))
        write_text(folder / NAME, f"{_heading(text)}\n{text}")


def _heading(text: str) -> str:
    """Against damage, not against forgery: whoever can forge the index can forge the records."""
    return f"{FORMAT} {zlib.crc32(text.encode()):08x}"


def _stamp(plain: list[int]) -> Stamp:
    inode, size, mtime, ctime = plain
    return inode, size, mtime, ctime


def _plain(digest: Digest, keys: dict[tuple[str, ...], int]) -> list[Any]:
    rows = [[keys.setdefault(row[:5], len(keys)), *row[5:]] for row in digest.rows]
    names = (digest.commit, digest.branch, digest.subject, digest.machine, digest.suites, digest.errors)
    return [digest.run_id, digest.time.isoformat(), *names, rows]


def _digest(plain: list[Any], keys: list[tuple[Any, ...]]) -> Digest:
    run_id, at, commit, branch, subject, machine, suites, errors, rows = plain
    whole = [(*keys[row[0]], *row[1:]) for row in rows]
    names = (commit, branch, subject, machine, tuple(suites), errors)
    return Digest(run_id, datetime.fromisoformat(at), *names, whole)
