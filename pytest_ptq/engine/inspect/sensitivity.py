"""What the output gains when a layer stays in fp32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pytest_ptq.engine.calibrate import Calibration
from pytest_ptq.engine.convert import QuantizedModule, convert
from pytest_ptq.engine.correct.exchange import with_tensors
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.inspect.sqnr import sqnr_db
from pytest_ptq.engine.modules import QuantizedWeighted
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
    # Without corrected biases, as the candidates are: they make up for all the layers before them.
    before = sqnr_db(reference, _rounded_alike(convert(fused, quantized.plan, calibration, q), quantized)(x))
    found: list[float | None] = []
    for layer in layers:
        without = replace(q, fp32_layers=(*q.fp32_layers, layer), reduce_range=quantized.plan.reduce_range)
        try:
            candidate = convert(fused, make_plan(fused, without), calibration, without)
        except QuantizationError:  # a model of one layer has nothing left to quantize: no gain can be told
            found.append(None)
            continue
        found.append(sqnr_db(reference, _rounded_alike(candidate, quantized)(x)) - before)
    return found


def _rounded_alike(candidate: QuantizedModule, quantized: QuantizedModule) -> QuantizedModule:
    """The candidate with weights rounded as `quantized` has them, where that was searched."""
    if quantized.qconfig.rounding is None:
        return candidate
    theirs = {path: layer for path, layer in candidate.named_modules() if isinstance(layer, QuantizedWeighted)}
    searched = {path: layer for path, layer in quantized.named_modules() if isinstance(layer, QuantizedWeighted)}
    shared = theirs.keys() & searched.keys()
    return with_tensors(candidate, {path: {"weight": searched[path].weight} for path in shared})
