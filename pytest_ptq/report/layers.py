"""Which layers lose most, by what, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pytest_ptq.metrics import LayerError, parts_per_million
from pytest_ptq.report.printable import printable

SHOWN = 5
"""How many of the worst layers, and of the layers left in fp32, are listed."""

FAINT_DB = 30.0
"""Below this, quantizing a weight or an input costs more than eight bits need to: one in a thousand of the power."""
CLIPPED_PERCENT = 1.0

_COLUMNS: Mapping[str, Callable[[LayerError], str]] = {
    "SQNR dB": lambda x: _db(x.sqnr_db),
    "alone": lambda x: _db(x.alone_db),
    "weights": lambda x: _db(x.weight_db),
    "inputs": lambda x: _db(x.input_db),
    "clipped %": lambda x: "-" if x.clipped_percent is None else f"{x.clipped_percent:.2f}",
    "dead": lambda x: "-" if x.dead_channels is None else f"{x.dead_channels}/{x.channels}",
    "int16 overflows": lambda x: parts_per_million(x.overflowing_pairs, x.pairs),
    "gain in dB if left in fp32": lambda x: _db(x.gain_db, "+"),
}
_ALWAYS = ("SQNR dB", "gain in dB if left in fp32")


def layer_lines(layers: Sequence[LayerError]) -> list[str]:
    """A table of the worst layers, and a sentence on the worst. Columns in which nobody has a figure are left out."""
    if not layers:
        return []
    worst = sorted(layers, key=LayerError.rank)[:SHOWN]
    cells = {title: [show(x) for x in worst] for title, show in _COLUMNS.items()}
    titles = [title for title, shown in cells.items() if title in _ALWAYS or any(text != "-" for text in shown)]
    rows = [[printable(x.name), printable(x.kind), *(cells[title][i] for title in titles)] for i, x in enumerate(worst)]
    from tabulate import tabulate

    text = tabulate(rows, headers=["layer", "kind", *titles], tablefmt="simple", disable_numparse=True)
    cause = why(worst[0])
    said = ["", f"    {printable(worst[0].name)}: {cause}"] if cause else []
    return ["", "  worst layers by SQNR", *(f"    {line}" for line in text.splitlines()), *said]


def why(row: LayerError) -> str:
    """What a layer's loss comes from, and what to do: a sentence; empty where too little is known of it."""
    if row.alone_db is None:
        return ""
    weights, inputs = (row.weight_db if row.weight_db is not None else 999.0), row.input_db
    if (row.clipped_percent or 0.0) >= CLIPPED_PERCENT:
        return (
            f"{row.clipped_percent:.1f} % of its output is clipped; "
            "take an observer with a wider range (minmax), or calibrate with more images"
        )
    if weights < FAINT_DB and (inputs is None or weights <= inputs):
        return (
            f"its weights lose most ({weights:.1f} dB); one scale for each channel (weight_granularity) "
            "or equalization helps where channels differ in size"
        )
    if inputs is not None and inputs < FAINT_DB:
        return (
            f"what it reads is stored coarsely ({inputs:.1f} dB), mostly for a few large values; "
            "take an observer that clips them (histogram, percentile, mse)"
        )
    if row.sqnr_db is not None and row.sqnr_db < row.alone_db - 3:
        return "on its own it loses little: the loss comes from the layers before it, added up"
    return "eight bits are few for it; leave it in fp32 (fp32_layers), or round its weights better"


def _db(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"
