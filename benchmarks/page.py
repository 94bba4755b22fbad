"""Where results go beside the terminal: between two marks of a Markdown page, and into a JSON file."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_ptq.errors import UsageError
from pytest_ptq.measure.machine import describe_machine
from pytest_ptq.store.atomic import write_text

FOLDER = Path(".ptq") / "benchmarks"


def insert(path: Path, text: str, name: str) -> None:
    """Replace what stands between the two marks called `name`. Raises UsageError where a page has no such marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read ({type(error).__name__})", place=str(path)) from error
    before, first, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        remedy = f"Write {begin} and {end}, each on a line of its own, where the table belongs."
        raise UsageError(f"the marks of the {name} table are missing", place=str(path), remedy=remedy)
    write_text(path, f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


def write_json(path: Path, found: Mapping[str, Any], versions: Mapping[str, str] | None = None) -> None:
    """Results with the machine and the versions that they were measured on. Raises OSError."""
    machine = asdict(describe_machine())
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"machine": machine, "versions": {"python": platform.python_version(), **(versions or {})}, **found}
    write_text(path, json.dumps(whole, indent=1, allow_nan=False) + "\n")
