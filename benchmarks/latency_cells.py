"""Models and numbers of threads whose engines are timed together: which ones, and each kept or measured now."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import latency_crew, latency_models
from benchmarks.accuracy_rows import PRESET_SOURCES, sources
from benchmarks.latency_rows import FOLDER, Cell, store, stored
from benchmarks.latency_worker import Pace
from benchmarks.rivals.rival import Rival
from benchmarks.turns import Turns, add_locks
from pytest_ptq.errors import UnknownNameError
from pytest_ptq.measure.machine import describe_machine

ROUNDS = 8
THREADS = (1, 2)
HERE = Path(__file__).resolve().parent
OWN_SOURCES = (HERE / "ours.py", HERE / "latency_models.py", HERE / "latency_worker.py", HERE / "latency_crew.py")
OWN_HASH = sources(*PRESET_SOURCES, *OWN_SOURCES)
"""Taken when the code is imported, not when a cell is ready: somebody may edit it meanwhile."""


def add_cell_options(parser: argparse.ArgumentParser) -> None:
    """What commands have in common that time cells, all but where their JSON goes."""
    only = "measure and show only these, such as resnet50 or '*:1'; repeatable"
    parser.add_argument("--only", action="append", metavar="MODEL[:THREADS]", help=only)
    parser.add_argument("--engine", action="append", metavar="GLOB", help="only these engines; repeatable")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"of turns, {ROUNDS} by default")
    parser.add_argument("--keep", action="store_true", help="show results of earlier sources, marked, as they are")
    parser.add_argument("--kept-only", action="store_true", help="measure nothing: show what was kept, as --keep does")
    add_locks(parser)
    parser.add_argument("--into", metavar="FILE", help="put the tables between the marks of a Markdown file too")


def select_cells(only: Sequence[str] | None, models: Sequence[str]) -> list[tuple[str, int]]:
    """Models with numbers of threads, in the table's order. Raises UnknownNameError: a filter that fits nothing."""
    known = [(model, threads) for threads in THREADS for model in models]
    chosen = set()
    for pattern in only or ["*"]:
        model, _, threads = pattern.partition(":")
        fitting = [c for c in known if fnmatchcase(c[0], model) and fnmatchcase(str(c[1]), threads or "*")]
        if not fitting:
            raise UnknownNameError("model", pattern, [f"{name}:{count}" for name, count in known], place="--only")
        chosen.update(fitting)
    return [case for case in known if case in chosen]


def fitting_engines(globs: Sequence[str] | None, known: Sequence[tuple[Rival, bool]]) -> list[tuple[Rival, bool]]:
    """Those of the known engines that some glob names, all without any. Raises UnknownNameError."""
    for glob in globs or ():
        if not any(fnmatchcase(engine.key, glob) for engine, _ in known):
            raise UnknownNameError("engine", glob, [engine.key for engine, _ in known], place="--engine")
    return [pair for pair in known if any(fnmatchcase(pair[0].key, glob) for glob in globs or ["*"])]


def measured_cells(
    cases: Sequence[tuple[str, int]],
    engines: Sequence[tuple[Rival, bool]],
    found: Mapping[str, str],
    options: argparse.Namespace,
    folder: Path = FOLDER,
) -> list[Cell]:
    """A cell for each model and number of threads, kept in `folder` or measured now; none where it is neither.

    Args:
        cases: models with numbers of threads.
        engines: each with whether it is a rival, and so runs by the rivals' Python.
        found: versions of the rivals' packages.
        options: what `add_cell_options` declares.
        folder: where cells are kept.
    """
    cells = (_cell(model, threads, engines, found, options, folder) for model, threads in cases)
    return [cell for cell in cells if cell is not None]


def _cell(
    model: str,
    threads: int,
    engines: Sequence[tuple[Rival, bool]],
    found: Mapping[str, str],
    options: argparse.Namespace,
    folder: Path,
) -> Cell | None:
    key = _key(engines, found, options.rounds)
    kept = stored(model, threads, key, folder)
    if kept is not None and (options.keep or options.kept_only or not kept.stale):
        return kept
    if options.kept_only:
        return None
    plan = latency_crew.Plan(latency_models.__name__, model, threads, options.rounds, Pace(), Turns(options.lock))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{model}-{threads}.log").open("wb") as log:
        measured = latency_crew.measure(plan, engines, log)
    example = latency_models.images(1)[0]
    cell = Cell(model, threads, key, latency_models.macs(latency_models.build(model), example), measured)
    store(cell, folder)
    return cell


def _key(engines: Sequence[tuple[Rival, bool]], found: Mapping[str, str], rounds: int) -> dict[str, str]:
    machine = describe_machine()
    modules = (Path(str(sys.modules[engine.module].__file__)) for engine, _ in engines)
    files = (*modules, *(path for engine, _ in engines for path in engine.sources))
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
