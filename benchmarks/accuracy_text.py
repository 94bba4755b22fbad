"""The accuracy table and its goals as Markdown, from measured rows alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate

from benchmarks import page
from benchmarks.accuracy_rows import METRICS, Row
from benchmarks.rivals.rival import Rival
from pytest_ptq.measure.paired import mcnemar_exact
from pytest_ptq.metrics import ACCURACY_DROP, SQNR

HEADS = ["engine", "top-1 fp32 %", "top-1 int8 %", "drop pp", "flips %", "SQNR dB", "notes"]
GOAL_HEADS = ["model", "goal", "asked", "found", "reached"]
GAIN_DB = 1.0
"""By how much `best` is to stand above the best rival."""
LOSES_NO_MORE = "`best` loses no more than the best rival"
GAINS = f"`best` {GAIN_DB:g} dB above the best rival"
REACHES = "`x86` reaches ONNX Runtime MinMax"
NOT_MEASURED = ["", "not measured", "not known"]
BEGIN, END = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"
STALE = "measured with earlier sources"


def section(suite: str, rows: Sequence[Row], names: Mapping[str, str]) -> str:
    """The table of one suite, in the order of `rows`."""
    lines = [
        [names.get(row.engine, f"`{row.engine}`"), *_figures(row), _cell("; ".join(filter(None, _notes(row))))]
        for row in rows
    ]
    images = max((row.images for row in rows), default=0)
    title = f"### {suite}\n\n{images:,} images." if images else f"### {suite}"
    return f"{title}\n\n{tabulate(lines, HEADS, 'github', disable_numparse=True)}"


def _figures(row: Row) -> list[str]:
    return [f"{row.values[m.key]:.{m.digits}f}" if row.values else "" for m in METRICS]


def _notes(row: Row) -> tuple[str, ...]:
    return (STALE if row.stale else "", row.error, row.notes)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def goals(rows: Mapping[str, Sequence[Row]], rivals: Sequence[Rival]) -> str:
    """What the rows say of each goal: yes, no, or that a row is missing."""
    lines = [line for suite, found in rows.items() for line in _suite_goals(suite, found, rivals)]
    return f"### Goals\n\n{tabulate(lines, GOAL_HEADS, 'github', disable_numparse=True)}"


def _suite_goals(suite: str, rows: Sequence[Row], rivals: Sequence[Rival]) -> Iterator[list[str]]:
    names = {rival.key: rival.name for rival in rivals}
    known = {row.engine: row for row in rows if row.values}
    others = [row for row in known.values() if row.engine in names]
    yield [suite, LOSES_NO_MORE, *_loses_no_more(known.get("best"), others, names)]
    yield [suite, GAINS, *_gains(known.get("best"), others, names)]
    yield [suite, REACHES, *_reaches(known.get("x86"), known.get("onnxruntime_minmax"))]


def _loses_no_more(best: Row | None, others: Sequence[Row], names: Mapping[str, str]) -> list[str]:
    if best is None or not others:
        return NOT_MEASURED
    rival = min(others, key=lambda row: row.values[ACCURACY_DROP.key])
    reached = best.values[ACCURACY_DROP.key] <= rival.values[ACCURACY_DROP.key]
    asked = f"at most {_drop(rival)} pp ({names[rival.engine]})"
    return [asked, f"{_drop(best)} pp{_beside(best, rival)}", _yes(reached)]


def _gains(best: Row | None, others: Sequence[Row], names: Mapping[str, str]) -> list[str]:
    if best is None or not others:
        return NOT_MEASURED
    rival = max(others, key=lambda row: row.values[SQNR.key])
    asked = round(_tenth(rival) + GAIN_DB, 1)
    return [f"{asked:.1f} dB ({names[rival.engine]}: {_tenth(rival):.1f})", *_compared(best, asked)]


def _reaches(x86: Row | None, minmax: Row | None) -> list[str]:
    if x86 is None or minmax is None:
        return NOT_MEASURED
    return [f"{_tenth(minmax):.1f} dB", *_compared(x86, _tenth(minmax))]


def _compared(row: Row, asked: float) -> list[str]:
    return [f"{_tenth(row):.1f} dB", _yes(_tenth(row) >= asked)]


def _tenth(row: Row) -> float:
    """SQNR as the table shows it: whoever reads it is to come to the same answer."""
    return round(row.values[SQNR.key], 1)


def _drop(row: Row) -> str:
    return f"{row.values[ACCURACY_DROP.key]:.2f}"


def _beside(best: Row, rival: Row) -> str:
    """How many images lie between the two, and whether chance explains them (McNemar's exact test)."""
    if best.images != rival.images:
        return ""
    pairs = list(zip(rival.right, best.right, strict=True))
    lost, gained = pairs.count(("1", "0")), pairs.count(("0", "1"))
    return f", {lost - gained:+d} images of {best.images} wrong, p = {mcnemar_exact(lost, gained):.2f}"


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"


def to_json(rows: Iterable[Row]) -> str:
    """All rows with the keys that they were measured under."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def insert(path: Path, text: str) -> None:
    """Replace what stands between the marks of the page. Raises UsageError where it has none."""
    page.insert(path, text, "accuracy")
