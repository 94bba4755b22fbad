"""What the output gains when a layer stays in fp32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pytest_ptq.engine.calibrate import Calibration
from pytest_ptq.engine.convert import QuantizedModule, convert
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.inspect.sqnr import sqnr_db
from pytest_ptq.engine.plan import make_plan
from pytest_ptq.errors import QuantizationError
from pytest_ptq.metrics import LayerError


@torch.inference_mode()
def gains(
    fused: FusedModule, quantized: QuantizedModule, calibration: Calibration, rows: Sequence[LayerError], x: Tensor
) -> tuple[LayerError, ...]:
    """The same rows with what the output gains when each layer alone is left in fp32: one conversion a row."""
    found = sensitivities(fused, quantized, calibration, [row.name for row in rows], x)
    return tuple(replace(row, gain_db=gain) for row, gain in zip(rows, found, strict=True))


@torch.inference_mode()
def sensitivities(
    fused: FusedModule, quantized: QuantizedModule, calibration: Calibration, layers: Iterable[str], x: Tensor
) -> list[float | None]:
    """dB of SQNR that the output gains from each layer alone in fp32; None where nothing would be left in int8."""
    reference, q = fused(x), quantized.qconfig
    # Without what corrects an int8 model afterwards, as the candidates are.
    before = sqnr_db(reference, convert(fused, quantized.plan, calibration, q)(x))
    found: list[float | None] = []
    for layer in layers:
        without = replace(q, fp32_layers=(*q.fp32_layers, layer), reduce_range=quantized.plan.reduce_range)
        try:
            candidate = convert(fused, make_plan(fused, without), calibration, without)
        except QuantizationError:  # a model of one layer has nothing left to quantize: no gain can be told
            found.append(None)
            continue
        found.append(sqnr_db(reference, candidate(x)) - before)
    return found
