"""What bias correction keeps by the number of images that it looks at: SQNR of the logits on other images.

Each cell is the median of several draws of calibration images, and the smallest and the largest of them. Photographs:
PTQ_IMAGENET_KIT.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import takewhile
from statistics import median

import torch
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from benchmarks.accuracy_cases import Case, cases
from pytest_ptq.engine import pipeline
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.correct import bias, compare
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import load_suite

COUNTS = (4, 8, 16, 32, 64, 128)
DRAWS = 5
CALIBRATING = 512
EVALUATED = 256
QCONFIGS = ("x86", "minmax")
Evaluated = Sequence[tuple[Tensor, Tensor]]
"""Batches, and what fp32 answers."""


def table() -> str:
    """One row a model and qconfig: without correction, and by each number of images; in bold what is looked at."""
    chosen = [case for case in cases() if case.kind == "embedded" or case.argument]
    rows = [row for case in tqdm(chosen, file=sys.stderr) for row in _rows(case)]
    heads = ["model", "pixels", "qconfig", "without", *(f"{count} images" for count in COUNTS)]
    return tabulate(rows, heads, "github", disable_numparse=True)


def _rows(case: Case) -> list[list[str]]:
    run = SuiteRun(load_suite(case.suite, []), case.kind, case.argument, case.weights)
    calibrating = compare.take(run.dataset.calibration(), CALIBRATING)
    evaluated = [(x, run.fp32(x)) for x in compare.take(run.dataset.evaluation(), EVALUATED)]
    prepared = pipeline.prepare(run.fused, "x86")
    calibration = pipeline.calibrate(prepared, calibrating)
    images, found = torch.cat(calibrating), []
    enough = sum(map(len, bias.enough(calibrating)))
    for name in QCONFIGS:
        quantized = pipeline.convert(prepared, calibration, name)
        without = _sqnr_db(quantized, evaluated)
        counts = list(takewhile(lambda count: count <= len(images), COUNTS))
        cells = [_cell(run.fused, quantized, images, count, evaluated) for count in counts]
        # The count that is looked at lies between two of the columns, or is one of them.
        near = min(counts, key=lambda count: abs(count - enough))
        shown = [f"**{cell}**" if count == near else cell for cell, count in zip(cells, counts, strict=True)]
        found.append([case.name, "x".join(map(str, images.shape[2:])), name, f"{without:.1f}", *shown])
    return found


def _cell(fused: FusedModule, quantized: QuantizedModule, images: Tensor, count: int, evaluated: Evaluated) -> str:
    kept = []
    for draw in range(DRAWS):
        drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(draw))[:count]
        shifts = bias.correction(fused, quantized, [images[drawn]]).shifts
        kept.append(_sqnr_db(bias.with_shifts(quantized, shifts), evaluated))
    return f"{median(kept):.1f} ({min(kept):.1f} to {max(kept):.1f})"


@torch.no_grad()
def _sqnr_db(quantized: QuantizedModule, evaluated: Evaluated) -> float:
    powers = compare.Powers()
    for x, expected in evaluated:
        powers.add(expected, quantized(x))
    return powers.sqnr_db()
