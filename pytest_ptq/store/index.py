"""What was read of the files in a history, kept in one file: a cache that may be deleted, damaged or old at any time.

An entry is believed about one very file: the one of its name with the same inode, size, and times of writing and of
change, to the nanosecond. Copying, touching, editing or replacing a file changes one of them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import stat
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.digest import Digest
from pytest_ptq.store.series import SeriesKey

NAME = ".index"
FORMAT = "pytest-ptq history index 3"

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
        keys = [SeriesKey(*key) for key in tree["keys"]]
        shapes = [tuple(keys[number] for number in shape) for shape in tree["shapes"]]
        return {name: (_stamp(stamp), _digest(plain, shapes)) for name, (stamp, plain) in tree["files"].items()}
    # Whatever a file that is no index of ours makes this stumble over: it is as good as none.
    except Exception:
        return {}


def write_index(folder: Path, index: Index) -> None:
    """Remember `index`, at once or not at all. A folder that cannot be written to is read again next time."""
    shapes = _Shapes()
    latest = time.time_ns() - SETTLED_NS
    settled = {name: entry for name, entry in index.items() if max(entry[0][2:]) < latest}
    files = {name: [stamp, _plain(digest, shapes)] for name, (stamp, digest) in settled.items()}
    tree = {"keys": [tuple(vars(key).values()) for key in shapes.keys], "shapes": list(shapes.shapes), "files": files}
    with contextlib.suppress(OSError, ValueError):
        text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
        write_text(folder / NAME, f"{_heading(text)}\n{text}")


class _Shapes:
    """Which series the values of a run belong to. Most runs have those of the run before: they are written once."""

    def __init__(self) -> None:
        self.keys: dict[SeriesKey, int] = {}
        self.shapes: dict[tuple[int, ...], int] = {}
        self._shared: dict[int, int] = {}
        """Numbers by the identity of the keys: all digests are held meanwhile, so that none is another's again."""

    def number(self, keys: tuple[SeriesKey, ...]) -> int:
        found = self._shared.get(id(keys))
        if found is None:
            shape = tuple(self.keys.setdefault(key, len(self.keys)) for key in keys)
            found = self._shared[id(keys)] = self.shapes.setdefault(shape, len(self.shapes))
        return found


def _heading(text: str) -> str:
    """Against damage, not against forgery: whoever can forge the index can forge the records."""
    return f"{FORMAT} {zlib.crc32(text.encode()):08x}"


def _stamp(plain: list[int]) -> Stamp:
    inode, size, mtime, ctime = plain
    return inode, size, mtime, ctime


def _plain(digest: Digest, shapes: _Shapes) -> list[Any]:
    names = (digest.commit, digest.branch, digest.subject, digest.machine, digest.suites, digest.errors)
    columns = map(_packed, (digest.values, digest.lows, digest.highs))
    return [digest.run_id, digest.time.isoformat(), *names, shapes.number(digest.keys), *columns, digest.judged]


def _digest(plain: list[Any], shapes: list[tuple[SeriesKey, ...]]) -> Digest:
    run_id, at, commit, branch, subject, machine, suites, errors, shape, values, lows, highs, judged = plain
    names = (commit, branch, subject, machine, tuple(suites), errors, shapes[shape])
    rows = tuple([tuple(row) for row in judged])
    return Digest(
        run_id, datetime.fromisoformat(at), *names, _unpacked(values), _unpacked(lows), _unpacked(highs), rows
    )


def _packed(column: Sequence[float | None]) -> str | Sequence[float | None]:
    """Doubles, least byte first, in base64, NaN for None: writing them out in digits would take most of the time."""
    if not set(map(type, column)) <= {float, type(None)}:  # a whole number stays one
        return column
    doubles = struct.pack(f"<{len(column)}d", *(math.nan if number is None else number for number in column))
    return base64.b64encode(doubles).decode()


def _unpacked(column: Any) -> tuple[Any, ...]:
    if not isinstance(column, str):
        return tuple(column)
    doubles = base64.b64decode(column, validate=True)
    numbers = struct.unpack(f"<{len(doubles) // 8}d", doubles)
    return tuple([None if number != number else number for number in numbers])  # NaN differs from itself
