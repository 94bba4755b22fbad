"""The history folder: one run record a file, named so that sorting by name is sorting by time."""

from __future__ import annotations

from pathlib import Path

from pytest_ptq.errors import StoreError
from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.record import RunRecord

ELSEWHERE = "Make the folder writable, or name another with --ptq-history."


def record_name(record: RunRecord) -> str:
    """`20260131T120000.000000Z-0123456789ab.json`: the time in UTC, then what sets apart runs of one microsecond."""
    return f"{record.time:%Y%m%dT%H%M%S.%f}Z-{record.run_id}.json"


def write_record(folder: Path, record: RunRecord) -> Path:
    """Write `record` into `folder` (made if need be), the whole file or none. Raises StoreError."""
    if not record.run_id.isalnum():
        raise StoreError(f"{record.run_id!r} cannot name a run", remedy="Leave run_id to be chosen.")
    path = folder / record_name(record)
    text = record.to_json()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise StoreError("a run record of this name is there already", place=str(path))
        write_text(path, text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"the run record cannot be written ({reason})"
        raise StoreError(message, place=str(folder), remedy=ELSEWHERE) from error
    return path


def read_record(path: Path) -> RunRecord:
    """The record in `path`. Raises StoreError: missing, damaged, from another schema."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise StoreError(f"the run record cannot be read ({error})", place=str(path)) from error
    return RunRecord.from_json(text, str(path))


def list_records(folder: Path) -> list[Path]:
    """The record files of `folder`, oldest first; none when there is no such folder."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
