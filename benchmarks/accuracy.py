"""What every preset keeps of a model's accuracy, on the embedded suites and on real photographs, beside other engines.

The photographs are those of the folder that PTQ_IMAGENET_KIT names. Rows of other engines were measured on the same
images with the same split; they are quoted, with their versions' settings, and not measured again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from pytest_ptq.errors import PTQError
from pytest_ptq.measure.accuracy import collect_logits, compare
from pytest_ptq.metrics import ACCURACY_DROP, FLIPS, SQNR, TOP1_FP32, TOP1_INT8
from pytest_ptq.qconfig import PRESETS
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import list_suites, load_suite, packaged_suites

if TYPE_CHECKING:
    from torch import Tensor

HEADS = ["qconfig", "top-1 fp32 %", "top-1 int8 %", "drop pp", "flips %", "SQNR dB", "corrections"]
KIT_SUITE = Path(__file__).parent.parent / "tests" / "suites" / "mobilenet_v2_kit.py"
RIVALS = {
    "mobilenet_v2_kit": (
        ("torch FX default (min/max, per tensor)", 74.3, 565, -3.6),
        ("torch FX x86 (histogram, per channel)", 13.8, 181, 3.7),
        ("torch FX onednn, fused", 3.3, 93, 8.6),
        ("torchao PT2E", 1.3, 63, 12.5),
        ("Neural Compressor 3.10", 1.8, 64, 12.1),
        ("ONNX Runtime MinMax", -0.5, 16, 21.4),
        ("ONNX Runtime Percentile", -0.3, 19, 22.4),
        ("NNCF default", -0.2, 19, 21.4),
    )
}
"""Engine, drop in points, flips among 600 images and SQNR in dB, measured on an AMD Zen 5 with torch 2.15."""
RIVAL_IMAGES = 600
IMAGES = 2560
"""How many evaluation images are looked at: all of the photographs, a quarter of Fashion-MNIST's."""


def table() -> str:
    """A table a suite: one row a preset, then the other engines' figures where they are known."""
    parts = [section(run) for run in _runs()]
    if not KIT:
        parts.append("mobilenet_v2_kit: not measured, PTQ_IMAGENET_KIT names no folder with photographs.")
    return "\n\n".join(parts)


def section(run: SuiteRun) -> str:
    """The table of one suite."""
    print(run.suite.name, file=sys.stderr)
    rows = [*_presets(run), *_rivals(run.suite.name)]
    return f"## {run.suite.name}\n\n{tabulate(rows, HEADS, 'github')}"


KIT = os.environ.get("PTQ_IMAGENET_KIT", "")


def _runs() -> Iterator[SuiteRun]:
    folder = [packaged_suites()]
    for name in sorted(list_suites(folder)):
        suite = load_suite(name, folder)
        if "embedded" in suite.variants:
            yield SuiteRun(suite, "embedded")
    if KIT:
        weights = Path(KIT) / "weights" / "mobilenet_v2_coral.pth"
        yield SuiteRun(load_suite(str(KIT_SUITE), []), "imagenet", KIT, weights)


def _evaluation(run: SuiteRun) -> list[tuple[Tensor, Tensor]]:
    """The first IMAGES evaluation images, kept in memory: every preset reads them."""
    found: list[tuple[Tensor, Tensor]] = []
    for batch in run.dataset.evaluation():
        found.append(batch)
        if sum(len(labels) for _, labels in found) >= IMAGES:
            break
    return found


def _presets(run: SuiteRun) -> Iterator[list[str]]:
    batches = _evaluation(run)
    fp32, labels = collect_logits(run.fp32, batches)
    for qconfig in PRESETS.values():
        try:
            quantized = run.quantized(qconfig)
            int8, _ = collect_logits(quantized, batches)
        except PTQError as error:
            yield [qconfig.name, "", "", "", "", "", str(error)]
            continue
        found = compare(fp32, int8, labels)
        metrics = (TOP1_FP32, TOP1_INT8, ACCURACY_DROP, FLIPS, SQNR)
        yield [qconfig.name, *(f"{found[m.key].value:.{m.digits}f}" for m in metrics), "; ".join(quantized.notes)]


def _rivals(suite: str) -> Iterator[list[str]]:
    for engine, drop, flips, sqnr in RIVALS.get(suite, ()):
        yield [engine, "", "", f"{drop:.2f}", f"{100 * flips / RIVAL_IMAGES:.2f}", f"{sqnr:.1f}", "measured before"]
