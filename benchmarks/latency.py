"""Latency of one image, this engine beside the others, all timed in the same rounds.

Every engine has a process that stays alive; in each round each has a turn, in random order, while all others rest.
Figures are medians over rounds of a turn's median, with a 95 % interval over rounds. Weights are random: no kernel's
time depends on them. Results of a model and a number of threads are kept in `.ptq/latency`: interrupted, the command
goes on where it was. The rivals run by the Python that PTQ_RIVALS_PYTHON names (this one by default); one that fails
has a cell that says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import latency_crew, latency_models, ours
from benchmarks.accuracy_rows import PRESET_SOURCES, sources
from benchmarks.footer import footer
from benchmarks.latency_rows import FOLDER, Cell, store, stored
from benchmarks.latency_text import OPENVINO, goals, section
from benchmarks.latency_worker import Pace
from benchmarks.page import insert, write_json
from benchmarks.rivals import RIVALS
from benchmarks.rivals.process import versions
from benchmarks.rivals.rival import Rival
from benchmarks.turns import Turns, add_locks
from pytest_ptq.errors import UnknownNameError
from pytest_ptq.measure.machine import describe_machine

COMMAND = "python -m benchmarks latency"
TORCH_BASED = ("torch_fx_x86", "torch_fx_onednn", "torchao_pt2e", "neural_compressor")
BESIDE = (OPENVINO,)
"""Timed as well, but not among those that the goal for rivals speaks of: torch does not run them."""
ROUNDS = 8
THREADS = (1, 2)
HERE = Path(__file__).resolve().parent
OWN_SOURCES = (HERE / "ours.py", HERE / "latency_models.py", HERE / "latency_worker.py", HERE / "latency_crew.py")
OWN_HASH = sources(*PRESET_SOURCES, *OWN_SOURCES)
"""Taken when the code is imported, not when a cell is ready: somebody may edit it meanwhile."""


def table(arguments: Sequence[str] = ()) -> str:
    """The tables as Markdown, also written to the files that the arguments name.

    Raises:
        UsageError: a filter that fits nothing, or a file that cannot take the tables.
    """
    options = _parser().parse_args(arguments)
    engines = select_engines(options.engine)
    found = versions([engine for engine, rival in engines if rival])
    cells = [
        cell
        for model, threads in select(options.only)
        if (cell := _cell(model, threads, engines, found, options)) is not None
    ]
    text = _render(cells, engines, found)
    write_json(Path(options.json), {"cells": [asdict(cell) for cell in cells]}, found)
    if options.into:
        insert(Path(options.into), f"{text}\n\n{footer(COMMAND)}", "latency")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    only = "measure and show only these, such as resnet50 or '*:1'; repeatable"
    parser.add_argument("--only", action="append", metavar="MODEL[:THREADS]", help=only)
    parser.add_argument("--engine", action="append", metavar="GLOB", help="only these engines; repeatable")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"of turns, {ROUNDS} by default")
    parser.add_argument("--keep", action="store_true", help="show results of earlier sources, marked, as they are")
    parser.add_argument("--kept-only", action="store_true", help="measure nothing: show what was kept, as --keep does")
    add_locks(parser)
    parser.add_argument("--into", metavar="FILE", help="put the tables between the marks of a Markdown file too")
    parser.add_argument("--json", default=str(FOLDER / "latency.json"), metavar="FILE", help="where JSON goes")
    return parser


def select(only: Sequence[str] | None) -> list[tuple[str, int]]:
    """Models with numbers of threads, in the table's order. Raises UnknownNameError: a filter that fits nothing."""
    known = [(model, threads) for threads in THREADS for model in latency_models.MODELS]
    chosen = set()
    for pattern in only or ["*"]:
        model, _, threads = pattern.partition(":")
        fitting = [c for c in known if fnmatchcase(c[0], model) and fnmatchcase(str(c[1]), threads or "*")]
        if not fitting:
            raise UnknownNameError("model", pattern, [f"{name}:{count}" for name, count in known], place="--only")
        chosen.update(fitting)
    return [case for case in known if case in chosen]


def select_engines(globs: Sequence[str] | None) -> list[tuple[Rival, bool]]:
    """Engines in the table's order, each with whether it is a rival. Raises UnknownNameError."""
    rivals = {rival.key: rival for rival in RIVALS}
    known = [*((engine, False) for engine in ours.RIVALS), *((rivals[key], True) for key in (*TORCH_BASED, *BESIDE))]
    for glob in globs or ():
        if not any(fnmatchcase(engine.key, glob) for engine, _ in known):
            raise UnknownNameError("engine", glob, [engine.key for engine, _ in known], place="--engine")
    return [pair for pair in known if any(fnmatchcase(pair[0].key, glob) for glob in globs or ["*"])]


def _cell(
    model: str,
    threads: int,
    engines: Sequence[tuple[Rival, bool]],
    found: Mapping[str, str],
    options: argparse.Namespace,
) -> Cell | None:
    """Kept, or measured now; None where it is neither."""
    key = _key(engines, found, options.rounds)
    kept = stored(model, threads, key)
    if kept is not None and (options.keep or options.kept_only or not kept.stale):
        return kept
    if options.kept_only:
        return None
    plan = latency_crew.Plan(latency_models.__name__, model, threads, options.rounds, Pace(), Turns(options.lock))
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{model}-{threads}.log").open("wb") as log:
        measured = latency_crew.measure(plan, engines, log)
    example = latency_models.images(1)[0]
    cell = Cell(model, threads, key, latency_models.macs(latency_models.build(model), example), measured)
    store(cell)
    return cell


def _key(engines: Sequence[tuple[Rival, bool]], found: Mapping[str, str], rounds: int) -> dict[str, str]:
    machine = describe_machine()
    files = [Path(str(sys.modules[engine.module].__file__)) for engine, _ in engines]
    return {
        **found,
        "own torch": machine.torch,
        "isa": machine.isa,
        "cpu": machine.cpu,
        "rounds": str(rounds),
        "engines": " ".join(engine.key for engine, _ in engines),
        "sources": OWN_HASH,
        "rivals": sources(*dict.fromkeys(files)),
    }


def _render(cells: Sequence[Cell], engines: Sequence[tuple[Rival, bool]], found: Mapping[str, str]) -> str:
    names = {engine.key: engine.name for engine, _ in engines}
    parts = [
        section(threads, chosen, names, TORCH_BASED)
        for threads in THREADS
        if (chosen := [cell for cell in cells if cell.threads == threads])
    ]
    packages = ", ".join(f"{name} {found[name]}" for name in sorted(found)) or "none installed"
    return "\n\n".join([*parts, goals(cells, names, TORCH_BASED, latency_models.MODELS), f"Rivals: {packages}."])
