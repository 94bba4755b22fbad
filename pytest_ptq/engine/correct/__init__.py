"""Corrections: weights + calibration data -> better weights. One correction a file, each a pure function.

`improve_weights` does what comes before calibration, `improve_int8` what comes after conversion. Both say what they did
in sentences that stay with the model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.correct import bias, compare, smooth
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.errors import QuantizationError
from pytest_ptq.qconfig import QConfig

logger = logging.getLogger(__name__)
Notes = tuple[str, ...]


def weights_key(qconfig: QConfig) -> tuple[object, ...]:
    """Equal for qconfigs whose weights are the same before calibration, so that one calibration serves them all."""
    return (qconfig.smooth_quant, qconfig.weight_granularity if qconfig.smooth_quant else None)


def improve_weights(fused: FusedModule, qconfig: QConfig, batches: Iterable[Any] | None) -> tuple[FusedModule, Notes]:
    """The same function with weights and activations that are easier to quantize, where `qconfig` asks for it."""
    if not qconfig.smooth_quant:
        return fused, ()
    kept, apart = compare.split(compare.take(_needed(batches, qconfig, "smooth_quant", "prepare")))
    extremes = smooth.channel_extremes(fused, kept)
    per_channel = qconfig.weight_granularity == "per_channel"
    factors = smooth.choose_factors(fused, extremes, qconfig.smooth_quant, apart, per_channel)
    if not factors:
        found = "none has a layer before it that factors can move into" if not extremes else "none gains from it"
        return fused, (_said(f"smooth_quant changed nothing: of the activations, {found}", logging.WARNING),)
    note = f"smooth_quant: {len(factors)} of {len(extremes)} activations smoothed"
    return smooth.smooth(fused, factors), (_said(note),)


def improve_int8(
    fused: FusedModule, quantized: QuantizedModule, qconfig: QConfig, batches: Iterable[Any] | None
) -> QuantizedModule:
    """The int8 model with better biases, where `qconfig` asks for it and they are better."""
    if not qconfig.bias_correction:
        return quantized
    kept, apart = compare.split(compare.take(_needed(batches, qconfig, "bias_correction", "convert")))
    corrected = bias.with_shifts(quantized, bias.bias_shifts(fused, quantized, kept))
    before, after = (compare.sqnr_db(fused, model, apart) for model in (quantized, corrected))
    measured = f"{before:.1f} dB without it, {after:.1f} dB with it, on {sum(map(len, apart))} images"
    if after > before:
        corrected.notes = (*quantized.notes, _said(f"bias_correction: {measured}"))
        return corrected
    quantized.notes = (*quantized.notes, _said(f"bias_correction left out, it does harm: {measured}", logging.WARNING))
    return quantized


def _needed(batches: Iterable[Any] | None, qconfig: QConfig, field: str, call: str) -> Iterable[Any]:
    if batches is None:
        raise QuantizationError(
            f"{field} needs calibration batches",
            stage=call,
            place=f"qconfig {qconfig.name}",
            remedy=f"Give them: {call}(..., batches=batches).",
        )
    return batches


def _said(note: str, level: int = logging.INFO) -> str:
    logger.log(level, note)
    return note
