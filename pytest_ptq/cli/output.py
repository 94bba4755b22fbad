"""What commands print: a table for a person, or JSON for a program; no name in it does anything to a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from pytest_ptq.metrics import Measurement, Metric
from pytest_ptq.report.printable import printable

F = TypeVar("F", bound=Callable[..., Any])

ABSENT = "-"
SHORT_COMMIT = 12


def json_option(command: F) -> F:
    """`--json`, which every command takes; the parameter is called `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")(command)


def say_json(tree: Any) -> None:
    """`tree` on standard output, in ASCII. Raises ValueError for a value that is not finite."""
    say(json.dumps(tree, indent=2, allow_nan=False))


def say(text: str = "") -> None:
    click.echo(text)


def warn(sentences: Iterable[str]) -> None:
    """Sentences for a person, beside what a program may read."""
    for sentence in sentences:
        sys.stderr.write(f"{printable(sentence)}\n")


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> str:
    """A table as text.

    Args:
        headers: of the columns.
        rows: cells; None is shown as "-".
        right: columns, from 0, that are flush right.
    """
    from tabulate import tabulate

    cells = [[ABSENT if cell is None else printable(str(cell)) for cell in row] for row in rows]
    sides = ["right" if i in set(right) else "left" for i in range(len(headers))]
    return tabulate(cells, headers=headers, tablefmt="simple", disable_numparse=True, colalign=sides if cells else None)


def measured(measurement: Measurement | None) -> str:
    """The value with its unit, and its interval where it has one."""
    if measurement is None:
        return ABSENT
    return interval(measurement.metric, measurement.value, measurement.low, measurement.high)


def interval(metric: Metric, value: float, low: float | None, high: float | None) -> str:
    text = metric.format(value)
    if low is None or high is None:
        return text
    return f"{text} [{low:.{metric.digits}f}, {high:.{metric.digits}f}]"


def day(time: datetime) -> str:
    """`2026-01-31 12:00`, in UTC."""
    return f"{time:%Y-%m-%d %H:%M}"


def commit(name: str | None) -> str | None:
    """As people quote it; what was not committed stays marked."""
    if name is None:
        return None
    bare, dash, rest = name.partition("-")
    return f"{bare[:SHORT_COMMIT]}{dash}{rest}"
