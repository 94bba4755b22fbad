"""The largest memory of this process."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_ptq.errors import MeasurementError

STATUS = Path("/proc/self/status")


def peak_mb() -> float:
    """MiB. Raises MeasurementError where the system does not say.

    Not getrusage: what the parent process held when it started this one counts as this one's there (exec_mmap in
    Linux's fs/exec.c).
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError as error:
        raise MeasurementError(f"{STATUS} cannot be read ({type(error).__name__})") from error
    if found is None:
        raise MeasurementError(f"{STATUS} has no VmHWM")
    return int(found[1]) / 1024
