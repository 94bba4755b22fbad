"""The latency tables and goals as Markdown, from measured cells alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from tabulate import tabulate

from benchmarks.estimate import estimate, geometric_mean
from benchmarks.latency_rows import Cell, Engine, ratio
from benchmarks.ours import FP32, INT8, LOST, MATMUL, MATMUL_SHAPE

MEAN_GOAL, LARGEST_GOAL, LIMIT_GOAL, OPENVINO_GOAL = 0.85, 1.0, 1.35, 1.05
MACS_A_SECOND = 500e9
"""A core with AVX512-VNNI at 3.9 GHz multiplies and adds 64 bytes twice a cycle; 497e9 were seen at best."""
OPENVINO = "nncf_openvino"
GOAL_HEADS = ["goal", "asked", "found", "reached"]


def section(threads: int, cells: Sequence[Cell], names: Mapping[str, str], torch_based: Sequence[str]) -> str:
    """The table of one number of threads: a line a model, a column an engine, and below it what failed."""
    keys = [key for key in names if key not in (MATMUL, *LOST) and any(key in cell.engines for cell in cells)]
    heads = ["model", *(names[key] for key in keys), "int8 / best rival", "int8 / fp32 frozen", "int8 by"]
    lines = [
        [cell.model + (" *" if cell.stale else ""), *(_ms(cell.engines.get(key)) for key in keys),
         _beside(cell, cell.best(torch_based)), _beside(cell, FP32),
         _how(cell, INT8)]
        for cell in cells
    ]  # fmt: skip
    failed = [
        f"- {cell.model}, {names[key]}: {engine.error}"
        for cell in cells
        for key, engine in cell.engines.items()
        if engine.error and key in names
    ]
    title = f"### {threads} thread{'s' if threads > 1 else ''}, ms an image"
    table = tabulate(lines, heads, "github", disable_numparse=True)
    stale = "\\* measured with earlier sources" if any(cell.stale for cell in cells) else ""
    return "\n\n".join(filter(None, [title, table, stale, "\n".join(failed), _lost(cells, names)]))


def _lost(cells: Sequence[Cell], names: Mapping[str, str]) -> str:
    """The same models with other kernels and callers of this engine, beside what was chosen."""
    keys = [key for key in (INT8, *LOST[:2], FP32, *LOST[2:]) if any(key in cell.engines for cell in cells)]
    if not set(keys) & set(LOST):
        return ""
    lines = [[cell.model, *(_ms(cell.engines.get(key)) for key in keys), _how(cell, LOST[0])] for cell in cells]
    heads = ["model", *(names[key] for key in keys), "torch's kernels of int8"]
    return "What was not chosen:\n\n" + tabulate(lines, heads, "github", disable_numparse=True)


def _how(cell: Cell, key: str) -> str:
    return cell.engines[key].how if key in cell.engines else ""


def _ms(engine: Engine | None) -> str:
    if engine is None:
        return ""
    return f"{estimate(engine.medians):.2f}" if engine.turns else "failed"


def _beside(cell: Cell, other: str | None) -> str:
    """Ours over another engine."""
    if other is None or not _measured(cell, INT8, other):
        return "not known"
    return f"{ratio(cell, INT8, other):.2f}"


def _measured(cell: Cell, *keys: str) -> bool:
    return all(key in cell.engines and cell.engines[key].turns for key in keys)


def goals(cells: Sequence[Cell], names: Mapping[str, str], torch_based: Sequence[str], models: Sequence[str]) -> str:
    """What the cells say of each goal: yes, no, or that something was not measured."""
    lines = []
    for threads in sorted({cell.threads for cell in cells}):
        chosen = [cell for cell in cells if cell.threads == threads]
        lines += _rivals_goals(threads, chosen, names, torch_based, models)
        lines += [line for cell in chosen for line in _openvino_goals(cell)]
    lines += [line for cell in cells for line in _limit_goals(cell)]
    return f"### Goals\n\n{tabulate(lines, GOAL_HEADS, 'github', disable_numparse=True)}"


def _rivals_goals(
    threads: int, cells: Sequence[Cell], names: Mapping[str, str], torch_based: Sequence[str], models: Sequence[str]
) -> list[list[str]]:
    """Mean and largest ratio to each model's best rival."""
    found = {
        cell.model: (ratio(cell, INT8, best).value, best)
        for cell in cells
        if (best := cell.best(torch_based)) is not None and _measured(cell, INT8)
    }
    heads = f"int8 / best torch-based rival, {_threads(threads)}: "
    asked = [(heads + "geometric mean", MEAN_GOAL), (heads + "largest", LARGEST_GOAL)]
    if not found:
        return [[title, f"at most {goal:g}", "not measured", "not known"] for title, goal in asked]
    mean = geometric_mean([value for value, _ in found.values()])
    worst = max(found, key=lambda model: found[model][0])
    said = [f"{mean:.3f} over {len(found)} models", f"{found[worst][0]:.2f} ({worst}, {names[found[worst][1]]})"]
    # Models that are missing cannot make a goal that is missed any better, but one that is reached is not sure.
    complete = set(found) >= set(models)
    return [
        [title, f"at most {goal:g}", text, _reached(value, goal, complete)]
        for (title, goal), text, value in zip(asked, said, (mean, found[worst][0]), strict=True)
    ]


def _openvino_goals(cell: Cell) -> list[list[str]]:
    if not cell.model.startswith("resnet") or not _measured(cell, INT8, OPENVINO):
        return []
    found = ratio(cell, INT8, OPENVINO)
    title = f"int8 / OpenVINO, {cell.model}, {_threads(cell.threads)}"
    return [[title, f"at most {OPENVINO_GOAL:g}", f"{found:.2f}", _reached(found.value, OPENVINO_GOAL)]]


def _limit_goals(cell: Cell) -> list[list[str]]:
    """ResNet50 at one thread against the arithmetic that VNNI can do."""
    if (cell.model, cell.threads) != ("resnet50", 1) or not _measured(cell, INT8):
        return []
    limit_ms = 1000 * cell.macs / (MACS_A_SECOND * cell.threads)
    found = median(cell.engines[INT8].medians) / limit_ms
    title = f"int8 / arithmetic limit of VNNI ({limit_ms:.1f} ms), resnet50, {_threads(cell.threads)}"
    return [[title, f"at most {LIMIT_GOAL:g}", f"{found:.2f}{_gauged(cell)}", _reached(found, LIMIT_GOAL)]]


def _gauged(cell: Cell) -> str:
    """The same at the rate that a matrix product reached in these rounds: a machine may run below its limit."""
    if not _measured(cell, MATMUL):
        return ""
    share = ratio(cell, INT8, MATMUL).value * math.prod(MATMUL_SHAPE) / cell.macs
    rate = math.prod(MATMUL_SHAPE) / median(cell.engines[MATMUL].medians) / 1e6
    return f"; {share:.2f} at the {rate:.0f} GMAC/s that an int8 matrix product reached in the same rounds"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _reached(value: float, goal: float, complete: bool = True) -> str:
    """By the value as it is shown, at two digits more than the goal's."""
    if round(value, 3) > goal:
        return "no"
    return "yes" if complete else "not known"
