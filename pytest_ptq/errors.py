"""Every error that pytest-ptq raises on purpose.

PTQError
├── UsageError                an option, marker or argument that cannot be right
│   └── UnknownNameError      a name that is not in its table; suggests the nearest one
├── SuiteError                a suite file that is missing, raises or declares nonsense
├── DataError                 images, labels or batches that cannot be used
├── WeightsError              a state dict that is unsafe, incomplete or not finite
├── InstallationError         packages that do not fit together
├── CaptureError              a model that cannot be turned into a graph
├── QuantizationError         a graph that cannot be quantized
├── ExportError               a model that has no form for another runtime
├── VerificationError         a stage produced an illegal graph: a fault of the engine itself
├── InferenceError            a model that a runtime cannot load or run
├── MeasurementError          a measurement that is impossible or not a number
├── BaselineError             a baseline file that is missing, damaged or from another schema
└── StoreError                a record or artifact that cannot be written or read
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

_ACTIVE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control and formatting characters, halves of surrogate pairs, line and paragraph separators."""


class PTQError(Exception):
    """An error a person can act on: what was found, where, and what to do next.

    Args:
        message: what was found, a clause without a full stop.
        stage: the stage of work that found it (`capture`, `calibrate`, `baseline`, ...).
        place: where: suite, file and line, layer or batch.
        remedy: what to do next, a sentence.
    """

    stage = "pytest-ptq"

    def __init__(self, message: str, *, stage: str | None = None, place: str | None = None, remedy: str | None = None):
        self.message = message
        self.stage = stage or self.stage
        self.place = place
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        then = f". {self.remedy}" if self.remedy else ""
        return _one_line(f"{self.stage}: {where}{self.message}{then}")


def _one_line(text: str) -> str:
    """One sentence stays one line and does nothing to a terminal, whatever names and messages of others it quotes."""
    return "".join(
        " " if c in "\n\r\t" else c.encode("unicode_escape").decode() if unicodedata.category(c) in _ACTIVE else c
        for c in text
    )


class UsageError(PTQError):
    stage = "usage"


class UnknownNameError(UsageError):
    """A name that stands in no table; the message lists the nearest known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, place: str | None = None):
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names) or 'none'}."
        super().__init__(f"unknown {kind} {name!r}", place=place, remedy=hint)
        self.kind, self.name, self.known = kind, name, names


class SuiteError(PTQError):
    stage = "suite"


class DataError(PTQError):
    stage = "data"


class WeightsError(PTQError):
    stage = "weights"


class InstallationError(PTQError):
    stage = "installation"


class CaptureError(PTQError):
    stage = "capture"


class QuantizationError(PTQError):
    stage = "quantize"


class ExportError(PTQError):
    stage = "export"


class VerificationError(PTQError):
    stage = "verify"


class InferenceError(PTQError):
    stage = "runtime"


class MeasurementError(PTQError):
    stage = "measure"


class BaselineError(PTQError):
    stage = "baseline"


class StoreError(PTQError):
    stage = "store"
