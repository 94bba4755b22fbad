"""The tables of engines in their runtimes as Markdown: latency, kernels, goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from benchmarks.estimate import estimate, geometric_mean
from benchmarks.goal import Goal, goals
from benchmarks.latency_rows import Cell, ratio

LATENCY_LIMIT = 1.0
"""int8 / fp32 of the same runtime, that the latency gate lets pass."""
STALE = "\\* measured with earlier sources"


@dataclass(frozen=True)
class Pairing:
    """One runtime.

    Args:
        title: what people call it.
        int8, fp32: keys of this engine's models in it.
        rivals: keys of the engines whose int8 models run there too.
    """

    title: str
    int8: str
    fp32: str
    rivals: tuple[str, ...]

    @property
    def engines(self) -> tuple[str, ...]:
        return (self.int8, *self.rivals)


def latency_section(threads: int, cells: Sequence[Cell], names: Mapping[str, str], pairings: Sequence[Pairing]) -> str:
    """A line for every model and engine: ms, and int8/fp32 of the same runtime with its verdict."""
    lines = [
        [_model(cell), pairing.title, names[key], *_figures(cell, key, pairing)]
        for cell in cells
        for pairing in pairings
        for key in (pairing.fp32, *pairing.engines)
        if key in names and key in cell.engines
    ]
    heads = ["model", "runtime", "engine", "ms an image", "int8/fp32 there", f"limit {LATENCY_LIMIT:g}"]
    title = f"### {threads} thread{'s' if threads > 1 else ''}"
    stale = STALE if any(cell.stale for cell in cells) else ""
    return "\n\n".join(filter(None, [title, tabulate(lines, heads, "github", disable_numparse=True), stale]))


def _model(cell: Cell) -> str:
    return cell.model + (" *" if cell.stale else "")


def _figures(cell: Cell, key: str, pairing: Pairing) -> list[str]:
    engine = cell.engines[key]
    if not engine.turns:
        return [f"failed: {engine.error}", "", "FAIL"]
    figures = f"{estimate(engine.medians):.2f}"
    if key == pairing.fp32 or not measured(cell, pairing.fp32):
        return [figures, "", ""]
    found = ratio(cell, key, pairing.fp32)
    return [figures, f"{found:.3f}", _verdict(found.low, found.high)]


def _verdict(low: float, high: float) -> str:
    """By the whole interval, as the latency gate does."""
    if high <= LATENCY_LIMIT:
        return "pass"
    return "FAIL" if low > LATENCY_LIMIT else "inconclusive"


def measured(cell: Cell, *keys: str) -> bool:
    return all(key in cell.engines and cell.engines[key].turns for key in keys)


def kernels_section(cells: Sequence[Cell], names: Mapping[str, str], pairings: Sequence[Pairing]) -> str:
    """What each runtime says it runs, of each model once: kernels do not depend on threads."""
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.model, cell)
    lines = [
        [_model(cell), pairing.title, names[key], cell.engines[key].how]
        for cell in first.values()
        for pairing in pairings
        for key in pairing.engines
        if key in names and measured(cell, key) and "int8" in cell.engines[key].how
    ]
    heads = ["model", "runtime", "engine", "kernels"]
    return f"### int8 kernels\n\n{tabulate(lines, heads, 'github', disable_numparse=True)}"


def latency_goals(
    cells: Sequence[Cell], names: Mapping[str, str], pairings: Sequence[Pairing], models: Sequence[str]
) -> str:
    """Ours over the rival of the same runtime, a geometric mean over models, for each number of threads."""
    found: list[Goal] = []
    for threads in sorted({cell.threads for cell in cells}):
        chosen = [cell for cell in cells if cell.threads == threads]
        for pairing in pairings:
            if len(pairing.rivals) == 1:
                found += _goal(threads, chosen, names, pairing, models)
    return goals(found)


def _goal(
    threads: int, cells: Sequence[Cell], names: Mapping[str, str], pairing: Pairing, models: Sequence[str]
) -> list[Goal]:
    (rival,) = pairing.rivals
    known = {
        cell.model: ratio(cell, pairing.int8, rival).value for cell in cells if measured(cell, pairing.int8, rival)
    }
    if not known:
        return []
    worst = max(known, key=lambda model: known[model])
    missing = "" if set(known) >= set(models) else f", {len(known)} of {len(models)} models"
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    title = f"this in {pairing.title} / {names.get(rival, rival)}, {count}: geometric mean"
    beside = f", largest {known[worst]:.2f} ({worst}){missing}"
    return [Goal(title, geometric_mean(list(known.values())), 1.0, digits=3, beside=beside)]
