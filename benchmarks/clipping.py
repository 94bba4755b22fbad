"""How the weight of clipping errors in the histogram observer's search changes what the embedded suites keep."""

from __future__ import annotations

import sys

from tabulate import tabulate
from tqdm import tqdm

from pytest_ptq import Suite
from pytest_ptq.engine import pipeline
from pytest_ptq.engine.observers import least_squares
from pytest_ptq.measure.accuracy import collect_logits, compare
from pytest_ptq.metrics import ACCURACY_DROP, FLIPS, SQNR
from pytest_ptq.qconfig import X86
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import list_suites, load_suite, packaged_suites

WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0, float("inf"))
BATCHES = 40
"""Evaluation batches of 64 images: enough for SQNR, and for flips to about half a point."""


def table() -> str:
    """One row a weight (infinite: nothing is clipped), one column a suite: SQNR of the logits, drop and flips."""
    folder = [packaged_suites()]
    known = [load_suite(name, folder) for name in sorted(list_suites(folder))]
    suites = [suite for suite in known if "embedded" in suite.variants]
    columns = [_column(suite) for suite in suites]
    rows = [[f"{weight:g}", *(column[i] for column in columns)] for i, weight in enumerate(WEIGHTS)]
    return tabulate(rows, ["weight", *(f"{s.name}: dB / drop pp / flips %" for s in suites)], tablefmt="github")


def _column(suite: Suite) -> list[str]:
    run = SuiteRun(suite)
    prepared = pipeline.prepare(run.fused, X86)
    calibration = pipeline.calibrate(prepared, run.dataset.calibration())
    batches = [batch for batch, _ in zip(run.dataset.evaluation(), range(BATCHES), strict=False)]
    fp32, labels = collect_logits(run.fp32, batches)
    usual, cells = least_squares.CLIPPING_WEIGHT, []
    try:
        for weight in tqdm(WEIGHTS, desc=suite.name, file=sys.stderr):
            # Infinity times no clipping error is NaN; a weight that no error of rounding can reach does the same.
            least_squares.CLIPPING_WEIGHT = min(weight, 1e12)
            int8, _ = collect_logits(pipeline.convert(prepared, calibration), batches)
            found = compare(fp32, int8, labels)
            cells.append(
                f"{found[SQNR.key].value:.1f} / {found[ACCURACY_DROP.key].value:.2f} / {found[FLIPS.key].value:.2f}"
            )
    finally:
        least_squares.CLIPPING_WEIGHT = usual
    return cells
