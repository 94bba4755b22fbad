"""The data of the charts as JSON: columns rather than rows, and nothing written twice, for the sake of size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_ptq.metrics import Direction, Metric, Verdict
from pytest_ptq.report.page.history import Line
from pytest_ptq.report.page.latency import Spot, Spread
from pytest_ptq.report.page.layers import Layers
from pytest_ptq.report.page.runs import MIB, Run
from pytest_ptq.report.printable import printable

LETTERS: Mapping[Verdict | None, str] = {
    Verdict.PASS: "P",
    Verdict.FAIL: "F",
    Verdict.INCONCLUSIVE: "I",
    Verdict.NO_BASELINE: "N",
    Verdict.XFAIL: "X",
    None: "-",
}
LOG_FROM = 5.0
"""Latencies that lie farther apart than by this factor are drawn on a logarithmic axis."""


def as_script(data: object) -> str:
    """JSON that may stand inside a script element: no name in it can end the element, or begin a comment."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def history_chart(lines: Sequence[Line], order: Mapping[str, int], runs: list[list[int]]) -> dict[str, Any]:
    """One metric of one suite. `order`: index of each run; `runs`: such indices, shared by series, added to."""
    metric = lines[0].metric
    return {
        "kind": "history",
        "title": printable(metric.title),
        "unit": "MiB" if _unit(metric) != 1 else printable(metric.unit),
        "digits": 2 if _unit(metric) != 1 else metric.digits,
        "better": "lower" if metric.direction is Direction.LOWER_IS_BETTER else "higher",
        "series": [_series(line, order, runs) for line in lines],
    }


def _series(line: Line, order: Mapping[str, int], runs: list[list[int]]) -> dict[str, Any]:
    unit = _unit(line.metric)
    points = line.points
    at = [order[point.run_id] for point in points]
    if at not in runs[-64:]:
        runs.append(at)
    where = len(runs) - 1 - runs[::-1].index(at)
    return {
        "qconfig": printable(line.key.qconfig),
        "machine": printable(line.key.machine),
        "runs": where,
        "value": [_short(point.value, unit) for point in points],
        "low": _column([point.low for point in points], unit),
        "high": _column([point.high for point in points], unit),
        "bound": _column([point.bound for point in points], unit),
        "recorded": _column([point.recorded for point in points], unit),
        "verdicts": "".join(LETTERS[point.verdict] for point in points),
        "changes": [
            [shift.index, _short(shift.before, unit), _short(shift.after, unit), _short(shift.p_value), shift.worse]
            for shift in line.shifts
        ],
    }


def scatter_chart(spots: Sequence[Spot]) -> dict[str, Any]:
    """Models of one kind of data and machine."""
    times = [spot.ms for spot in spots]
    return {
        "kind": "scatter_log" if max(times) > LOG_FROM * min(times) else "scatter",
        "points": [
            {
                "suite": printable(spot.row.suite),
                "qconfig": printable(spot.row.qconfig),
                "precision": spot.precision,
                "name": printable(spot.name),
                "ms": _short(spot.ms),
                "top1": _short(spot.top1),
                "front": spot.front,
            }
            for spot in spots
        ],
    }


def ratios_chart(
    pairs: Sequence[Sequence[float]], spread: Sequence[Spread], judged: tuple[float, float] | None, limit: float | None
) -> dict[str, Any]:
    """The pairs of one row. `judged`: ends of the interval that the gate went by."""
    low, high = judged or (None, None)
    return {
        "kind": "ratios",
        "pairs": [[_short(ratio) for ratio in process] for process in pairs],
        "spread": [
            {
                "process": found.name,
                "quarter": _short(found.quarter),
                "middle": _short(found.middle),
                "three_quarters": _short(found.three_quarters),
            }
            for found in spread
        ],
        "judged": {"low": _short(low), "high": _short(high), "limit": limit},
    }


def layers_chart(found: Layers) -> dict[str, Any]:
    return {
        "kind": "layers",
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "db": _short(layer.db),
                "was": _short(layer.was),
                "fell": layer.fell,
            }
            for layer in found.drawn
        ],
    }


def run_list(runs: Sequence[Run], machines: Sequence[str]) -> dict[str, Any]:
    """What the charts call their runs, oldest first."""
    return {
        "commit": [run.commit for run in runs],
        "name": [run.name for run in runs],
        "subject": [run.subject for run in runs],
        "time": [run.minute for run in runs],
        "machines": list(machines),
    }


def _column(values: list[float | None], unit: float) -> list[float | None] | float | None:
    """A value that never changes is written once."""
    if len(set(values)) == 1:
        return _short(values[0], unit)
    return [_short(value, unit) for value in values]


def _short(value: float | None, unit: float = 1.0) -> float | None:
    """Six digits: more than any chart can show."""
    if value is None:
        return None
    short = float(f"{value / unit:.6g}")
    return int(short) if short.is_integer() else short


def _unit(metric: Metric) -> float:
    return MIB if metric.unit == "B" else 1
