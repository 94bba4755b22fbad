"""Goals beside what was found of them, as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tabulate import tabulate

from pytest_ptq.errors import MeasurementError

HEADS = ["goal", "asked", "found", "reached"]


@dataclass(frozen=True)
class Goal:
    """What is to stay at or below a number.

    Args:
        title: what.
        found: the figure; NaN is an error, not a goal reached.
        asked: at most.
        unit: of both.
        digits: after the point: the goal is judged by what is shown.
        beside: what else is to be said of the figure.
    """

    title: str
    found: float
    asked: float
    unit: str = ""
    digits: int = 2
    beside: str = ""

    def reached(self) -> bool:
        """Raises MeasurementError for NaN."""
        if self.found != self.found:
            raise MeasurementError("a goal was held against NaN", place=self.title)
        return round(self.found, self.digits) <= self.asked

    def cells(self) -> list[str]:
        said = f"{self.found:.{self.digits}f} {self.unit}".strip()
        asked = f"at most {self.asked:g} {self.unit}".strip()
        return [self.title, asked, f"{said}{self.beside}", "yes" if self.reached() else "no"]


def goals(found: Iterable[Goal]) -> str:
    """The table under its title."""
    lines = [goal.cells() for goal in found]
    return f"### Goals\n\n{tabulate(lines, HEADS, 'github', disable_numparse=True)}"
