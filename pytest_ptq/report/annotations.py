"""Workflow commands that make GitHub Actions show what a gate found beside the line that holds its limit.

GitHub's runner reads the output of a step line by line and obeys lines that begin with `::`, after blanks. A line is
`::error file=F,line=N,title=T::MESSAGE`; what stands in it is escaped as "Workflow commands for GitHub Actions"
(docs.github.com) says, and as the runner undoes it (actions/runner, ActionCommand.cs): in the message `%`, carriage
return and line feed, in a property `:` and `,` as well. Names of suites, qconfigs, layers and files can so
never end a command or begin another one.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_ptq.judge.gates import REFRESH
from pytest_ptq.metrics import Judgement, Verdict
from pytest_ptq.report.printable import printable
from pytest_ptq.report.terminal import GATE_OF
from pytest_ptq.store.record import QConfigRecord

LONGEST_TITLE = 255
LONGEST_MESSAGE = 4096
"""Characters. GitHub cuts a title at 255 and shows an annotation of at most 64 KB."""

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}
_PLACE = re.compile(r"(?P<file>.+):(?P<line>[1-9][0-9]{0,8})", re.DOTALL)


class Level(enum.Enum):
    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True)
class Place:
    """A file, relative to the repository with `/` between folders, and a line, counted from 1."""

    file: str
    line: int | None = None


@dataclass(frozen=True)
class Annotation:
    """What is said about a gate, and where; without a place it is shown on the run's page only."""

    level: Level
    title: str
    message: str
    place: Place | None = None


Locate = Callable[[Judgement | None], Place | None]
"""The place that a judgement is about; of None, that of a gate that could not be measured."""


def annotate(record: QConfigRecord, *, strict: bool, locate: Locate) -> list[Annotation]:
    """What GitHub is told of one record: nothing of a pass, else one annotation a judgement and one an error.

    A failed gate is an error, an inconclusive one a warning (an error under `--ptq-strict`), a pass that asks for a
    refresh of the baseline a notice; of a failure that was expected nothing is said.
    """
    name = f"{record.suite}[{record.qconfig}]"
    found = [Annotation(Level.ERROR, f"{name}: not judged", error, locate(None)) for error in record.errors]
    for judgement in record.judgements.values():
        level = _level(judgement, strict=strict)
        if level is not None:
            metric = judgement.measurement.metric
            title = f"{GATE_OF.get(metric.key, metric.title)} of {name}: {judgement.verdict.value}"
            found.append(Annotation(level, title, judgement.reason, locate(judgement)))
    return found


def _level(judgement: Judgement, *, strict: bool) -> Level | None:
    if judgement.verdict is Verdict.PASS:
        return Level.NOTICE if REFRESH in judgement.reason else None
    if judgement.verdict is Verdict.XFAIL:
        return None
    if judgement.verdict is Verdict.INCONCLUSIVE and not strict:
        return Level.WARNING
    return Level.ERROR


def github_command(annotation: Annotation) -> str:
    """The line that makes GitHub show `annotation`: one line, one command, whatever the texts hold."""
    place = annotation.place
    properties = {
        "file": place.file if place else "",
        "line": str(place.line) if place and place.line else "",
        "title": _cut(annotation.title, LONGEST_TITLE),
    }
    stated = ",".join(f"{key}={_escaped(value, _PROPERTY)}" for key, value in properties.items() if value)
    message = _escaped(_cut(annotation.message, LONGEST_MESSAGE), _DATA)
    line = f"::{annotation.level.value} {stated}::{message}"
    return line.encode("utf-8", "replace").decode("utf-8")  # a file name may hold what no output takes


def place_of(source: str, here: Path, root: Path) -> Place | None:
    """`file:line` as a `Place`; None when it is no such thing, or when the file lies outside the repository.

    Args:
        source: a limit's source; a relative file is meant from `here`.
        here: an absolute folder.
        root: the repository's folder, absolute.
    """
    match = _PLACE.fullmatch(source)
    if match is None:
        return None
    return relative_place(here / match["file"], root, int(match["line"]))


def relative_place(file: Path, root: Path, line: int | None = None) -> Place | None:
    """`file` as seen from `root`; None when it lies elsewhere. `..` is taken out, links are not followed."""
    path = Path(os.path.normpath(file))
    return Place(path.relative_to(root).as_posix(), line) if path.is_relative_to(root) else None


def _cut(text: str, longest: int) -> str:
    shown = printable(text).strip()
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def _escaped(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(character, character) for character in text)
