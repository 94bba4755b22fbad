"""Rows of the accuracy table, kept from run to run so that an interrupted command goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ptq.measure.accuracy import compare
from pytest_ptq.metrics import ACCURACY_DROP, FLIPS, SQNR, TOP1_FP32, TOP1_INT8
from pytest_ptq.store.atomic import write_text

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(".ptq") / "accuracy"
METRICS = (TOP1_FP32, TOP1_INT8, ACCURACY_DROP, FLIPS, SQNR)
PACKAGE = Path(__file__).resolve().parent.parent / "pytest_ptq"
PRESET_SOURCES = (PACKAGE / "engine", PACKAGE / "qconfig.py", PACKAGE / "runner")
"""What a preset's figures depend on, beside model and data."""


@dataclass(frozen=True)
class Row:
    """What one engine keeps of one model.

    Args:
        suite: the case's name.
        engine: a preset's name or a rival's key.
        key: what was run: hashes and versions. A row whose key is another one is stale.
        values: by metric; empty where there is an error.
        right: one character an evaluation image, 1 where int8 is right.
        notes: what the preset's corrections say of themselves.
        error: why there are no values.
        stale: read from a file with another key.
    """

    suite: str
    engine: str
    key: Mapping[str, str]
    values: Mapping[str, float]
    right: str = ""
    notes: str = ""
    error: str = ""
    stale: bool = False

    @property
    def images(self) -> int:
        return len(self.right)


def measured(suite: str, engine: str, key: Mapping[str, str], logits: Tensor, fp32: tuple[Tensor, Tensor]) -> Row:
    """The row of these logits. Raises MeasurementError: another shape than fp32's, or not finite."""
    reference, labels = fp32
    found = compare(reference, logits, labels)
    right = "".join("1" if good else "0" for good in (logits.argmax(1) == labels).tolist())
    return Row(suite, engine, key, {m.key: found[m.key].value for m in METRICS}, right)


def store(row: Row, folder: Path = FOLDER) -> None:
    """Keep a row that has values; one with an error is tried again next time. Raises OSError."""
    if not row.error:
        path = _path(folder, row.suite, row.engine)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(row), indent=1) + "\n")


def stored(suite: str, engine: str, key: Mapping[str, str], folder: Path = FOLDER) -> Row | None:
    """The row that was kept, stale where its key says otherwise than `key`; None: there is none, or a damaged one."""
    try:
        fields: dict[str, Any] = json.loads(_path(folder, suite, engine).read_text(encoding="utf-8"))
        row = Row(**fields)
        if set(row.values) != {m.key for m in METRICS} or not row.images:
            return None
    except (OSError, ValueError, TypeError):
        return None
    return replace(row, stale=any(row.key.get(name) != value for name, value in key.items()))


def _path(folder: Path, suite: str, engine: str) -> Path:
    return folder / suite / f"{engine}.json"


def sources(*paths: Path) -> str:
    """Hash of files, and of all in Python and C that lie below folders, with their names."""
    found = hashlib.blake2b(digest_size=16)
    for path in paths:
        below = (file for file in path.rglob("*") if file.suffix in (".py", ".c", ".h"))
        for file in sorted(below) if path.is_dir() else [path]:
            found.update(f"{file.relative_to(path.parent).as_posix()}\0".encode())
            found.update(file.read_bytes())
    return found.hexdigest()
