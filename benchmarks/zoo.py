"""What of each model runs in int8, what stays fp32 and why, and what a conversion with random weights keeps."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass

import torch
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.zoo_models import ZOO, build, inputs
from pytest_ptq import engine
from pytest_ptq.engine.inspect import coverage, sqnr_db
from pytest_ptq.engine.modules import DeQuantize, Quantize


@dataclass(frozen=True)
class Row:
    """One model: share of multiply-accumulates in int8, borders, dB against fp32, MB, and what stayed fp32."""

    name: str
    int8: float
    quantizes: int
    dequantizes: int
    sqnr: float
    megabytes: tuple[float, float]
    reasons: Counter[str]


def table() -> str:
    """One row a model."""
    rows = [measure(name) for name in tqdm(ZOO, file=sys.stderr)]
    cells = [
        [
            row.name, f"{row.int8:.1%}", f"{row.quantizes} / {row.dequantizes}", f"{row.sqnr:.1f}",
            f"{row.megabytes[0]:.1f} / {row.megabytes[1]:.1f}",
            "; ".join(f"{count} x {reason}" for reason, count in row.reasons.most_common()) or "nothing",
        ]
        for row in rows
    ]  # fmt: skip
    titles = ["model", "MACs in int8", "quantize / dequantize", "SQNR, dB", "fp32 / int8, MB", "stays fp32"]
    return tabulate(cells, titles, tablefmt="github")


def measure(name: str) -> Row:
    """Quantize one model by `x86` and look at the result on other inputs."""
    model, x = build(name), inputs(name, 8, seed=2)
    fused = engine.fuse(model)
    quantized = engine.quantize(model, [inputs(name, 8)])
    with torch.inference_mode():
        kept = sqnr_db(logits(model, x), logits(quantized, x))
    found = coverage(fused, quantized, x[:1])
    borders = [sum(isinstance(layer, kind) for layer in quantized.modules()) for kind in (Quantize, DeQuantize)]
    reasons = Counter("reads fp32" if why.startswith("reads fp32") else why for _, why in found.fp32_layers)
    sizes = engine.size_mb(model), engine.size_mb(quantized)
    return Row(name, found.int8_macs / found.total_macs, borders[0], borders[1], kept, sizes, reasons)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """The output that counts: segmentation models give several by name."""
    y = model(x)
    found: Tensor = y["out"] if isinstance(y, dict) else y
    return found
