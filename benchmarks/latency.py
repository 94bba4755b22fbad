"""Latency of one image, this engine beside the others, all timed in the same rounds.

Every engine has a process that stays alive; in each round each has a turn, in random order, while all others rest.
Figures are medians over rounds of a turn's median, with a 95 % interval over rounds. Weights are random: no kernel's
time depends on them. Results of a model and a number of threads are kept in `.ptq/latency`: interrupted, the command
goes on where it was. The rivals run by the Python that PTQ_RIVALS_PYTHON names (this one by default); one that fails
has a cell that says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import latency_models, ours
from benchmarks.footer import footer
from benchmarks.latency_cells import THREADS, add_cell_options, fitting_engines, measured_cells, select_cells
from benchmarks.latency_rows import FOLDER, Cell
from benchmarks.latency_text import OPENVINO, goals, section
from benchmarks.page import insert, write_json
from benchmarks.rivals import RIVALS
from benchmarks.rivals.process import versions
from benchmarks.rivals.rival import Rival

COMMAND = "python -m benchmarks latency"
TORCH_BASED = ("torch_fx_x86", "torch_fx_onednn", "torchao_pt2e", "neural_compressor")
BESIDE = (OPENVINO,)
"""Timed as well, but not among those that the goal for rivals speaks of: torch does not run them."""


def table(arguments: Sequence[str] = ()) -> str:
    """The tables as Markdown, also written to the files that the arguments name.

    Raises:
        UsageError: a filter that fits nothing, or a file that cannot take the tables.
    """
    options = _parser().parse_args(arguments)
    engines = select_engines(options.engine)
    found = versions([engine for engine, rival in engines if rival])
    cells = measured_cells(select(options.only), engines, found, options)
    text = _render(cells, engines, found)
    write_json(Path(options.json), {"cells": [asdict(cell) for cell in cells]}, found)
    if options.into:
        insert(Path(options.into), f"{text}\n\n{footer(COMMAND)}", "latency")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    add_cell_options(parser)
    parser.add_argument("--json", default=str(FOLDER / "latency.json"), metavar="FILE", help="where JSON goes")
    return parser


def select(only: Sequence[str] | None) -> list[tuple[str, int]]:
    """Models with numbers of threads, in the table's order. Raises UnknownNameError: a filter that fits nothing."""
    return select_cells(only, latency_models.MODELS)


def select_engines(globs: Sequence[str] | None) -> list[tuple[Rival, bool]]:
    """Engines in the table's order, each with whether it is a rival. Raises UnknownNameError."""
    rivals = {rival.key: rival for rival in RIVALS}
    known = [*((engine, False) for engine in ours.RIVALS), *((rivals[key], True) for key in (*TORCH_BASED, *BESIDE))]
    return fitting_engines(globs, known)


def _render(cells: Sequence[Cell], engines: Sequence[tuple[Rival, bool]], found: Mapping[str, str]) -> str:
    names = {engine.key: engine.name for engine, _ in engines}
    parts = [
        section(threads, chosen, names, TORCH_BASED)
        for threads in THREADS
        if (chosen := [cell for cell in cells if cell.threads == threads])
    ]
    packages = ", ".join(f"{name} {found[name]}" for name in sorted(found)) or "none installed"
    return "\n\n".join([*parts, goals(cells, names, TORCH_BASED, latency_models.MODELS), f"Rivals: {packages}."])
