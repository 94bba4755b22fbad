"""Files that are either the old ones or the new ones, whenever the machine stops."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace the contents of `path` at once; its permissions stay. The folder has to exist.

    The text goes to a hidden file in the same folder, to the disk, and then to its name; on any failure, an interrupt
    included, that file is removed and `path` is as it was. Raises OSError.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    # Not `tempfile`: its files are private, and a baseline is to be as readable as the rest of the repository.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk too. Some file systems refuse; the contents are safe without."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
