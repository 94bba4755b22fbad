"""Corrections: weights + calibration data -> better weights. One correction a file, each a pure function.

`improve_weights` does what comes before calibration, `improve_int8` what comes after conversion. Both say what they did
in sentences that stay with the model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from pytest_ptq.engine.calibrate import Calibration, Progress
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.correct import bias, compare, equalize, ranges, rounding, smooth
from pytest_ptq.engine.correct.exchange import with_tensors
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.errors import QuantizationError
from pytest_ptq.qconfig import QConfig

logger = logging.getLogger(__name__)
Notes = tuple[str, ...]


def weights_key(qconfig: QConfig) -> tuple[object, ...]:
    """Equal for qconfigs whose weights are the same before calibration, so that one calibration serves them all."""
    return (qconfig.equalization, qconfig.smooth_quant, qconfig.weight_granularity if qconfig.smooth_quant else None)


def improve_weights(fused: FusedModule, qconfig: QConfig, batches: Iterable[Any] | None) -> tuple[FusedModule, Notes]:
    """The same function with weights and activations that are easier to quantize, where `qconfig` asks for it."""
    better, notes = fused, Notes()
    if qconfig.equalization:
        better, note = _equalized(better)
        notes = (*notes, note)
    if qconfig.smooth_quant:
        better, note = _smoothed(better, qconfig, batches)
        notes = (*notes, note)
    return better, notes


def _equalized(fused: FusedModule) -> tuple[FusedModule, str]:
    better, pairs = equalize.equalize(fused)
    if not pairs:
        reason = "no two layers follow each other so that factors can move"
        return fused, _said(f"equalization changed nothing: {reason}", logging.WARNING)
    return better, _said(f"equalization: {pairs} pairs of layers")


def _smoothed(fused: FusedModule, qconfig: QConfig, batches: Iterable[Any] | None) -> tuple[FusedModule, str]:
    kept, apart = compare.split(compare.take(_needed(batches, qconfig, "smooth_quant", "prepare")))
    extremes = smooth.channel_extremes(fused, kept)
    per_channel = qconfig.weight_granularity == "per_channel"
    factors = smooth.choose_factors(
        fused, extremes, qconfig.smooth_quant, compare.take(apart, smooth.IMAGES), per_channel
    )
    if not factors:
        found = "none has a layer before it that factors can move into" if not extremes else "none gains from it"
        return fused, _said(f"smooth_quant changed nothing: of the activations, {found}", logging.WARNING)
    note = f"smooth_quant: {len(factors)} of {len(extremes)} activations smoothed"
    return smooth.smooth(fused, factors), _said(note)


def choose_ranges(
    fused: FusedModule, calibration: Calibration, qconfig: QConfig, batches: Iterable[Any] | None
) -> tuple[QConfig, Notes]:
    """The qconfig with that of its observers which suits the model best, where it names several."""
    if not qconfig.observer_search:
        return qconfig, ()
    # Those that rounding is later judged on have no say in it.
    by, _ = compare.split(compare.take(_needed(batches, qconfig, "observer_search", "convert")))
    chosen, note = ranges.choose_observer(fused, calibration, qconfig, by)
    return chosen, (_said(note),)


def improve_int8(
    fused: FusedModule,
    quantized: QuantizedModule,
    qconfig: QConfig,
    batches: Iterable[Any] | None,
    progress: Progress | None = None,
) -> QuantizedModule:
    """The int8 model with better weights and biases, where `qconfig` asks for them and they are better."""
    apart: Sequence[Tensor] | None = None
    if qconfig.rounding is not None:
        by, apart = compare.split(compare.take(_needed(batches, qconfig, "rounding", "convert")))
        quantized = _rounded(fused, quantized, qconfig.rounding, by, apart, progress)
    return _unshifted(fused, quantized, qconfig, batches, apart) if qconfig.bias_correction else quantized


def _rounded(
    fused: FusedModule,
    quantized: QuantizedModule,
    seconds: float,
    by: Sequence[Tensor],
    apart: Sequence[Tensor],
    progress: Progress | None,
) -> QuantizedModule:
    found = rounding.adaptive_rounding(fused, quantized, by, seconds, progress)
    better = with_tensors(quantized, found.tensors)
    before, after = (compare.sqnr_db(fused, model, apart) for model in (quantized, better))
    measured = (
        f"{found.searched} of {found.layers} layers within {seconds:g} s, {before:.1f} dB without it, "
        f"{after:.1f} dB with it, on {sum(map(len, apart))} other images"
    )
    if after > before:
        better.notes = (*quantized.notes, _said(f"rounding: {measured}"))
        return better
    quantized.notes = (*quantized.notes, _said(f"rounding left out, it does not help: {measured}", logging.WARNING))
    return quantized


def _unshifted(
    fused: FusedModule,
    quantized: QuantizedModule,
    qconfig: QConfig,
    batches: Iterable[Any] | None,
    apart: Sequence[Tensor] | None,
) -> QuantizedModule:
    """Biases corrected, if that helps; by images that were set apart from what came before, where there are any."""
    given = _needed(batches, qconfig, "bias_correction", "convert") if apart is None else apart
    images = bias.enough(given)
    found = bias.correction(fused, quantized, images)
    measured = (
        f"{found.before_db:.1f} dB without it, {found.after_db:.1f} dB with it, on {sum(map(len, images))} images"
    )
    if found.after_db > found.before_db:
        better = bias.with_shifts(quantized, found.shifts)
        better.notes = (*quantized.notes, _said(f"bias_correction: {measured}"))
        return better
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
