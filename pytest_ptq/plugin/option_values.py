"""Texts of options and ini keys -> values. Each raises UsageError for what cannot be right, and gives None for None."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import TypeVar

from pytest_ptq.errors import UnknownNameError, UsageError
from pytest_ptq.plugin.gates import GATES

_E = TypeVar("_E", bound=enum.Enum)


def as_path(text: str, base: Path) -> Path:
    """A path, relative to `base` unless it is absolute."""
    # A relative path is as seen by whoever wrote it: from the working folder, or from the ini file.
    if "\0" in text:
        raise UsageError(f"{text!r} is not a path", remedy="It holds a NUL character.")
    return base / Path(text).expanduser()


def existing(option: str, path: Path | None) -> Path | None:
    """The path of a file that is there."""
    if path is not None and not path.is_file():
        raise UsageError(f"{option}: there is no file {path}")
    return path


def new_file(option: str, path: Path | None) -> Path | None:
    """The path of a file that is to be written: told before anything is measured that it is a folder."""
    if path is not None and path.is_dir():
        raise UsageError(f"{option}: {path} is a folder", remedy="Name a file.")
    return path


def names(text: str | None) -> tuple[str, ...]:
    """What stands between commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def gates_of(text: str | None) -> tuple[str, ...]:
    """The gates that `--ptq-metrics` names; all of them where it is not given."""
    named = names(text)
    if text is not None and not named:
        raise UsageError("--ptq-metrics names no gate", remedy=f"Known: {', '.join(GATES)}.")
    for name in named:
        if name not in GATES:
            raise UnknownNameError("gate in --ptq-metrics", name, GATES)
    return named or tuple(GATES)


def positive(text: str | None) -> int | None:
    """What `--ptq-threads` says."""
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--ptq-threads: {text!r} is not a positive whole number")
    return int(text)


def seconds(option: str, text: str | None) -> float | None:
    """A positive number of seconds."""
    if text in (None, ""):
        return None
    # Not float() alone: it takes "nan", "inf" and "1_0", and nothing is ever later than NaN.
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", str(text)) or not float(str(text)):
        raise UsageError(f"{option}: {text!r} is not a positive number of seconds")
    return float(str(text))


def choice(option: str, text: str | None, choices: type[_E]) -> _E | None:
    """The member of `choices` with that value."""
    if text is None:
        return None
    known = {str(member.value): member for member in choices}
    if text not in known:
        raise UnknownNameError(f"value of {option}", text, known)
    return known[text]
