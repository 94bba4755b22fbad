"""One quantized model in every runtime, and other engines' models, all under the same gates.

Latency: batch 1, 224 x 224, all engines of a model in the same rounds, each int8 model against the fp32 model of its
own runtime. int8 kernels: counted in the graph that each runtime runs. Accuracy: the embedded suites and the
photographs of PTQ_IMAGENET_KIT, calibration and evaluation images the same for all. Verdicts are those of the gates,
with the limits that the page names. Cells and rows are kept in `.ptq/engines` and `.ptq/accuracy`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import engines_accuracy, latency_models, ours, ours_runtimes
from benchmarks.engines_text import Pairing, kernels_section, latency_goals, latency_section
from benchmarks.footer import footer
from benchmarks.latency_cells import THREADS, add_cell_options, fitting_engines, measured_cells, select_cells
from benchmarks.latency_rows import Cell
from benchmarks.ours_runtimes import key
from benchmarks.page import insert, write_json
from benchmarks.rivals import RIVALS
from benchmarks.rivals.process import versions
from benchmarks.rivals.rival import Rival

COMMAND = "python -m benchmarks engines"
FOLDER = Path(".ptq") / "engines"
MODELS = tuple(name for name in latency_models.MODELS if name != "vit_b_16")
TORCH_BASED = ("torch_fx_x86", "torch_fx_onednn", "torchao_pt2e", "neural_compressor")
PAIRINGS = (
    Pairing("torch", ours.INT8, ours.FP32, TORCH_BASED),
    Pairing("ONNX Runtime", key("int8", "onnxruntime"), key("fp32", "onnxruntime"), ("onnxruntime_minmax",)),
    Pairing("OpenVINO", key("int8", "openvino"), key("fp32", "openvino"), ("nncf_openvino",)),
)
"""A runtime with this engine's int8 and fp32 in it, and the rivals that run there."""


def table(arguments: Sequence[str] = ()) -> str:
    """The tables as Markdown, also written to the files that the arguments name.

    Raises:
        UsageError: a filter that fits nothing, or a file that cannot take the tables.
    """
    options = _parser().parse_args(arguments)
    engines, chosen = select_engines(options.engine), engines_accuracy.select_cases(options.case)
    found = versions([engine for engine, rival in engines if rival])
    cells = measured_cells(select_cells(options.only, MODELS), engines, found, options, FOLDER)
    keys = [engine.key for engine, _ in engines]
    rows = engines_accuracy.rows(chosen, keys, options, found) if options.accuracy else []
    text = "\n\n".join(filter(None, [*_speed(cells, engines), engines_accuracy.section(rows), _packages(found)]))
    write_json(
        Path(options.json), {"cells": [asdict(cell) for cell in cells], "rows": [asdict(row) for row in rows]}, found
    )
    if options.into:
        insert(Path(options.into), f"{text}\n\n{footer(COMMAND)}", "engines")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    add_cell_options(parser)
    text = "of accuracy, only these, such as resnet50 or '*_kit'; repeatable"
    parser.add_argument("--case", action="append", metavar="GLOB", help=text)
    parser.add_argument("--no-accuracy", dest="accuracy", action="store_false", help="latency and kernels only")
    parser.add_argument("--json", default=str(FOLDER / "engines.json"), metavar="FILE", help="where JSON goes")
    return parser


def select_engines(globs: Sequence[str] | None) -> list[tuple[Rival, bool]]:
    """Engines in the table's order, each with whether it is a rival. Raises UnknownNameError."""
    rivals = {rival.key: rival for rival in RIVALS}
    own = {engine.key: engine for engine in (*ours.RIVALS, *ours_runtimes.RIVALS)}
    known: list[tuple[Rival, bool]] = []
    for pairing in PAIRINGS:
        known += [(own[pairing.fp32], False), (own[pairing.int8], False)]
        known += [(rivals[name], True) for name in pairing.rivals]
    return fitting_engines(globs, known)


def _speed(cells: Sequence[Cell], engines: Sequence[tuple[Rival, bool]]) -> list[str]:
    names = {engine.key: engine.name for engine, _ in engines}
    parts = [
        latency_section(threads, chosen, names, PAIRINGS)
        for threads in THREADS
        if (chosen := [cell for cell in cells if cell.threads == threads])
    ]
    if not parts:
        return []
    return [*parts, kernels_section(cells, names, PAIRINGS), latency_goals(cells, names, PAIRINGS, MODELS)]


def _packages(found: Mapping[str, str]) -> str:
    return "Rivals: " + (", ".join(f"{name} {found[name]}" for name in sorted(found)) or "none installed") + "."
