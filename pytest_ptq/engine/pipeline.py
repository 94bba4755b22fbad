"""The stages, as a list that can be read: capture, fuse, correct, plan, observe, calibrate, convert, correct."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from pytest_ptq.engine import calibrate as calibrating
from pytest_ptq.engine import convert as converting
from pytest_ptq.engine.calibrate import Calibration, Progress
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.correct import choose_ranges, improve_int8, improve_weights, weights_key
from pytest_ptq.engine.fuse import FusedModule, fuse
from pytest_ptq.engine.graph import StageModule
from pytest_ptq.engine.observe import PreparedModule, observe
from pytest_ptq.engine.plan import make_plan
from pytest_ptq.errors import QuantizationError
from pytest_ptq.qconfig import QConfig, get_qconfig


def prepare(model: nn.Module, qconfig: str | QConfig = "x86", batches: Iterable[Any] | None = None) -> PreparedModule:
    """A copy of `model` that observes what flows through it. `model` itself is not touched.

    Args:
        model: an nn.Module in eval mode, or what `fuse` returned.
        qconfig: a preset's name (`x86`, `minmax`, ...; also `fbgemm`, `default`), a QConfig, or one of torch.ao.
        batches: calibration batches, for a qconfig that corrects weights by them (`smooth_quant`).

    Raises:
        CaptureError: the model cannot be turned into a graph.
        WeightsError: a weight is not finite.
        QuantizationError: nothing in it can be quantized.
        UnknownNameError: there is no such qconfig.
    """
    chosen = get_qconfig(qconfig)
    fused = model if isinstance(model, FusedModule) else fuse(model)
    better, notes = improve_weights(fused, chosen, batches)
    prepared = observe(better, make_plan(better, chosen), chosen)
    prepared.notes = notes
    return prepared


def calibrate(prepared: PreparedModule, batches: Iterable[Any], progress: Progress | None = None) -> Calibration:
    """Feed batches through a prepared model; its observers remember, and the statistics are returned as a value.

    Raises:
        DataError: no batches, or one that is not finite or does not fit the model.
    """
    _expect(prepared, PreparedModule, "calibrate", "prepare(model, qconfig)")
    return calibrating.calibrate(prepared, batches, progress)


def convert(
    prepared: PreparedModule,
    calibration: Calibration | None = None,
    qconfig: str | QConfig | None = None,
    batches: Iterable[Any] | None = None,
    progress: Progress | None = None,
) -> QuantizedModule:
    """The int8 model.

    Args:
        prepared: a model that saw calibration data.
        calibration: statistics to use in place of those that `prepared` has collected.
        qconfig: convert by another configuration than the one `prepared` was made for. Its observers must not need
            more than was collected: one calibration with histograms serves them all.
        batches: calibration batches, for a qconfig that is decided or corrected by them (`observer_search`,
            `bias_correction`, `rounding`).

        progress: shows corrections going by.

    Raises:
        QuantizationError: nothing was calibrated, `qconfig` wants other weights than `prepared` has, or batches that
            a correction needs are missing.
    """
    _expect(prepared, PreparedModule, "convert", "prepare(model, qconfig)")
    seen = calibration or calibrating.collected(prepared)
    chosen = prepared.qconfig if qconfig is None else get_qconfig(qconfig)
    if weights_key(chosen) != weights_key(prepared.qconfig):
        message = f"qconfig {chosen.name} corrects weights otherwise than {prepared.qconfig.name}, which was prepared"
        raise QuantizationError(message, stage="convert", remedy=f"Prepare the model with {chosen.name}.")
    chosen, notes = choose_ranges(prepared.fused, seen, chosen, batches)
    plan = prepared.plan if chosen is prepared.qconfig else make_plan(prepared.fused, chosen)
    quantized = converting.convert(prepared.fused, plan, seen, chosen)
    quantized.notes = (*prepared.notes, *notes)
    return improve_int8(prepared.fused, quantized, chosen, batches, progress)


def quantize(
    model: nn.Module, batches: Iterable[Any], qconfig: str | QConfig = "x86", progress: Progress | None = None
) -> QuantizedModule:
    """All stages in one call: float model and calibration batches in, int8 model out."""
    chosen = get_qconfig(qconfig)
    if chosen.reads_batches_again and isinstance(batches, Iterator):
        message = f"the batches of qconfig {chosen.name} are read more than once"
        raise QuantizationError(message, stage="quantize", remedy="Give a list or a DataLoader, not an iterator.")
    prepared = prepare(model, chosen, batches)
    return convert(prepared, calibrate(prepared, batches, progress), batches=batches, progress=progress)


def _expect(value: object, kind: type, call: str, remedy: str) -> None:
    if not isinstance(value, kind):
        found = value._get_name() if isinstance(value, StageModule) else type(value).__name__
        raise QuantizationError(f"{call} was given a {found}", stage=call, remedy=f"Give it what {remedy} returned.")
