"""The charts as Vega-Lite specifications: plain dicts without data, one a kind of chart.

Data and size are added by the page's script, under the names that stand here: `datasets`, and the parameters `labels`
(text of the marks on the horizontal axis) and `number` (format of the vertical one). Colours are the page's own
variables, which the SVG that Vega draws resolves: a theme is switched, and a page is printed, without drawing again.
Reference: vega.github.io/vega-lite/docs/spec.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Names the grammar; nothing reads it from there."""


def _color(name: str) -> str:
    return f"var(--{name})"


def _tip() -> dict[str, str]:
    return {"field": "tip", "type": "nominal"}


def _x(field: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", **more}


def _params(**values: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _beside(pixels: int) -> Spec:
    """Of a text: on the side of its place that the script chose, 1 for the right and -1 for the left."""
    return {"align": {"expr": "datum.side > 0 ? 'left' : 'right'"}, "dx": {"expr": f"{pixels} * datum.side"}}


INK = {"field": "ink", "type": "nominal", "scale": None}
"""Colour of a qconfig or a suite, put into the data by the script."""
INKED: Spec = {"color": _color("ink")}
LIMIT: Spec = {"strokeDash": [6, 4], "strokeWidth": 1.5, "color": _color("bad")}
BY_SERIES = [{"field": "series"}]
BAND: Spec = {
    "data": {"name": "bands"},
    "mark": {"type": "rect"},
    "encoding": {"x": _x("from"), "x2": {"field": "to"}, "color": {"field": "fill", "type": "nominal", "scale": None}},
}
BAND_NAME: Spec = {
    "data": {"name": "bands"},
    "mark": {
        "type": "text", "align": "left", "baseline": "bottom", "dx": 2, "fontSize": 10, "color": _color("muted"),
    },
    "encoding": {"x": _x("from"), "y": {"value": -2}, "text": {"field": "label", "type": "nominal"}},
}  # fmt: skip


def _line(field: str, mark: Mapping[str, Any], color: Mapping[str, Any]) -> Spec:
    return {
        "name": field,
        "data": {"name": "points"},
        "transform": [{"filter": f"isValid(datum.{field})"}],
        "mark": {"type": "line", **mark},
        "encoding": {"y": {"field": field, "type": "quantitative"}, "detail": BY_SERIES, **color},
    }


def history() -> Spec:
    """Lines of a metric by run: values, intervals, limits, records, change points, and bands of machines behind."""
    interval: Spec = {
        "name": "low",
        "data": {"name": "points"},
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "area", "opacity": 0.14, "line": False},
        "encoding": {
            "y": {"field": "low", "type": "quantitative"},
            "y2": {"field": "high"},
            "detail": BY_SERIES,
            "color": INK,
        },
    }
    dots: Spec = {
        "data": {"name": "points"},
        "transform": [{"filter": "datum.shape !== ''"}],
        "mark": {"type": "point", "filled": True, "opacity": 1, "strokeWidth": 1.5},
        "encoding": {
            "y": {"field": "value", "type": "quantitative"},
            "shape": {"field": "shape", "type": "nominal", "scale": None},
            "size": {"field": "size", "type": "quantitative", "scale": None},
            "color": {"field": "dot", "type": "nominal", "scale": None},
            "tooltip": _tip(),
        },
    }
    changes: Spec = {
        "data": {"name": "changes"},
        "mark": {"type": "rule", "strokeWidth": 1.5, "strokeDash": [2, 3]},
        "encoding": {"color": INK, "tooltip": _tip()},
    }
    commits: Spec = {
        "data": {"name": "changes"},
        "mark": {"type": "text", **_beside(4), "baseline": "bottom", "dy": {"expr": "-4 - 12 * datum.row"},
                 "fontSize": 10, "font": "ui-monospace, monospace"},
        "encoding": {"y": {"value": {"expr": "height"}}, "text": {"field": "commit", "type": "nominal"}, "color": INK},
    }  # fmt: skip
    return {
        "$schema": SCHEMA,
        "height": 225,
        "params": _params(labels={}, number=".3~f"),
        "encoding": {
            "x": _x(
                "x",
                scale={"nice": False, "zero": False},
                axis={"title": None, "grid": False, "labelExpr": "labels[datum.value]", "labelFlush": True},
            ),
            "y": {
                "type": "quantitative",
                "scale": {"zero": False, "nice": True},
                "axis": {"title": None, "tickCount": 5, "labelExpr": "format(datum.value, number)"},
            },
        },
        "layer": [
            BAND,
            BAND_NAME,
            interval,
            _line("bound", {"interpolate": "step", **LIMIT}, {}),
            _line("recorded", {"interpolate": "step", "strokeDash": [1, 3], "strokeWidth": 1.5}, {"color": INK}),
            _line("value", {"strokeWidth": 1.8}, {"color": INK}),
            changes,
            commits,
            dots,
        ],
    }  # fmt: skip


def scatter(log: bool) -> Spec:
    """Top-1 against milliseconds, with the Pareto front. With `log`, milliseconds lie on a logarithmic axis."""
    dot: Spec = {
        "data": {"name": "points"},
        "mark": {"type": "point", "strokeWidth": 1.8, "opacity": 1},
        "encoding": {
            "shape": {"field": "shape", "type": "nominal", "scale": None},
            "size": {"value": 90},
            "stroke": INK,
            "fill": {"field": "fill", "type": "nominal", "scale": None},
            "tooltip": _tip(),
        },
    }
    name: Spec = {
        "data": {"name": "points"},
        "transform": [{"filter": "datum.label"}],
        "mark": {"type": "text", **_beside(9), "dy": -7, "fontSize": 11, "limit": 180, **INKED},
        "encoding": {"text": {"field": "name", "type": "nominal"}},
    }  # fmt: skip
    front: Spec = {
        "data": {"name": "points"},
        "transform": [{"filter": "datum.front"}],
        "mark": {"type": "line", "interpolate": "step-after", "strokeDash": [4, 3], "color": _color("muted")},
    }
    return {
        "$schema": SCHEMA,
        "height": 340,
        "encoding": {
            "x": _x("ms", scale={"padding": 40, **({"type": "log", "nice": False} if log else {"zero": False})},
                    axis={"title": "ms an image", "format": ".3~g", "tickCount": 6, "grid": False}),
            "y": {"field": "top1", "type": "quantitative", "scale": {"zero": False, "nice": True, "padding": 12},
                  "axis": {"title": "top-1 %"}},
        },
        "layer": [front, dot, name],
    }  # fmt: skip


def ratios() -> Spec:
    """Timed pairs: a row a process, a tick a pair, with quartiles and medians; the judged interval, and the limit."""
    row = {"field": "process", "type": "nominal", "sort": None, "axis": {"title": "process", "grid": False}}
    return {
        "$schema": SCHEMA,
        "encoding": {
            "x": {"type": "quantitative", "scale": {"zero": False, "nice": True},
                  "axis": {"title": "int8 / fp32", "tickCount": 6}},
        },
        "layer": [
            {
                "data": {"name": "judged"},
                "mark": {"type": "rect", "opacity": 0.16, "color": _color("accent")},
                "encoding": {"x": _x("low"), "x2": {"field": "high"}},
            },
            {
                "data": {"name": "pairs"},
                "mark": {"type": "tick", "thickness": 1, "size": 14, "opacity": 0.35, "color": _color("accent")},
                "encoding": {"x": _x("ratio"), "y": row},
            },
            {
                "data": {"name": "spread"},
                "mark": {"type": "bar", "size": 5, "opacity": 0.55, "color": _color("accent")},
                "encoding": {"x": _x("quarter"), "x2": {"field": "three_quarters"}, "y": row, "tooltip": _tip()},
            },
            {
                "data": {"name": "spread"},
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, "color": _color("ink")},
                "encoding": {"x": _x("middle"), "y": row, "tooltip": _tip()},
            },
            {
                "data": {"name": "judged"},
                "transform": [{"filter": "isValid(datum.limit)"}],
                "mark": {"type": "rule", **LIMIT},
                "encoding": {"x": _x("limit")},
            },
        ],
    }  # fmt: skip


def layers() -> Spec:
    """Bars of dB a layer in graph order, with a mark at what each was before."""
    row = {"field": "name", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": 210, "ticks": False}}
    return {
        "$schema": SCHEMA,
        "data": {"name": "layers"},
        "encoding": {"y": row},
        "layer": [
            {
                "mark": {"type": "bar", "cornerRadiusEnd": 2, "size": 11, "opacity": 0.8},
                "encoding": {
                    "x": _x("db", axis={"title": "SQNR, dB", "tickCount": 6}),
                    "color": {"field": "fill", "type": "nominal", "scale": None},
                    "tooltip": _tip(),
                },
            },
            {
                "transform": [{"filter": "isValid(datum.was)"}],
                "mark": {"type": "tick", "thickness": 2, "size": 16, "color": _color("ink")},
                "encoding": {"x": _x("was"), "tooltip": _tip()},
            },
        ],
    }


SPECS: Mapping[str, Spec] = {
    "history": history(),
    "scatter": scatter(False),
    "scatter_log": scatter(True),
    "ratios": ratios(),
    "layers": layers(),
}
