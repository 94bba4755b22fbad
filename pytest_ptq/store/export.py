"""One run record in a file of a person's choice, beside the one in the history."""

from __future__ import annotations

from pathlib import Path

from pytest_ptq.errors import StoreError
from pytest_ptq.store.atomic import write_text
from pytest_ptq.store.record import RunRecord


def export_record(path: Path, record: RunRecord) -> Path:
    """Write `record` to `path`, replacing the file at once or not at all. Raises StoreError."""
    text = record.to_json()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"the run record cannot be written ({reason})"
        raise StoreError(message, place=str(path), remedy="Name another file with --ptq-json.") from error
    return path
