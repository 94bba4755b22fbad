"""`inspect`: why an int8 model answers otherwise than the float model it was made from, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from pytest_ptq.engine.calibrate import Calibration, check_batch
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.fuse import FusedModule, fuse
from pytest_ptq.engine.graph import layer_of
from pytest_ptq.engine.inspect.sensitivity import gains
from pytest_ptq.engine.inspect.sqnr import CAP_DB, sqnr_db
from pytest_ptq.engine.inspect.walk import key_of, walk
from pytest_ptq.engine.modules import QuantizedWeighted
from pytest_ptq.engine.observe import PreparedModule
from pytest_ptq.errors import QuantizationError
from pytest_ptq.metrics import LayerError, parts_per_million

COLUMNS: Mapping[str, Callable[[LayerError], object]] = {
    "layer": lambda row: row.name,
    "kind": lambda row: row.kind,
    "weights dB": lambda row: _number(row.weight_db),
    "inputs dB": lambda row: _number(row.input_db),
    "alone dB": lambda row: _number(row.alone_db),
    "so far dB": lambda row: _number(row.sqnr_db),
    "fp32 gains dB": lambda row: _number(row.gain_db, "+.1f"),
    "int16 overflows": lambda row: parts_per_million(row.overflowing_pairs, row.pairs),
    "at most": lambda row: parts_per_million(row.possible_pairs, row.pairs),
    "dead": lambda row: "-" if row.channels is None else f"{row.dead_channels}/{row.channels}",
    "clipped %": lambda row: _number(row.clipped_percent, ".2f"),
    "scale": lambda row: _number(row.scale, ".4g"),
    "zero point": lambda row: "-" if row.zero_point is None else row.zero_point,
}
"""Columns of the table, in order."""


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found. Prints as a table.

    Args:
        layers: every int8 layer, in graph order.
        fp32_layers: (layer, reason) of what stayed in fp32.
        output_db: SQNR of the model's output in dB; None when it is no single tensor.
        images: how many the figures were taken on.
    """

    layers: tuple[LayerError, ...]
    fp32_layers: tuple[tuple[str, str], ...]
    output_db: float | None
    images: int

    def worst(self, count: int = 5) -> tuple[LayerError, ...]:
        """The layers that lose most on their own: lowest SQNR with exact inputs."""
        return tuple(sorted(self.layers, key=LayerError.rank)[:count])

    def series(self) -> dict[str, list[Any]]:
        """The columns as plain lists, for a plot: names, dB, shares; None where a figure does not apply."""
        return {name: [getattr(row, name) for row in self.layers] for name in LayerError.__dataclass_fields__}

    def __str__(self) -> str:
        rows = [[column(row) for column in COLUMNS.values()] for row in self.layers]
        said = "?" if self.output_db is None else f"{self.output_db:.1f}"
        head = f"output {said} dB on {self.images} images, {len(self.layers)} layers in int8"
        kept = [f"left in fp32: {name}: {reason}" for name, reason in self.fp32_layers]
        table = tabulate(rows, headers=list(COLUMNS), tablefmt="simple", disable_numparse=True)
        return "\n".join([head, table, *kept])


def inspect(
    quantized: QuantizedModule,
    model: nn.Module,
    batch: Any,
    *,
    calibration: Calibration | None = None,
    gains_of: int = 0,
) -> Inspection:
    """Hold every int8 layer against the float model.

    Of each: SQNR of its weights, of its inputs as they are stored, of its output with exact inputs (alone) and with
    those that the int8 layers before it made (so far); products that would overflow int16 on a CPU without VNNI;
    channels that always say the same; values that were clipped; scale and zero point.

    Args:
        quantized: from `convert` or `quantize`.
        model: the float model it was made from, or what `fuse` or `prepare` made of that. Where the qconfig changed
            the float weights (`equalization`, `smooth_quant`), what `prepare` returned: it holds them.
        batch: images (N, C, H, W), or a tuple that begins with them; eight pass at a time.
        calibration: what `calibrate` returned; needed for `gains_of`.
        gains_of: for how many of the layers that are worst alone the gain in fp32 is computed: a conversion each.

    Raises:
        QuantizationError: `quantized` is something else, or `gains_of` without a calibration.
        DataError: a batch that is none, empty or not finite.
    """
    if not isinstance(quantized, QuantizedModule):
        raise QuantizationError(f"inspect was given a {type(quantized).__name__}", remedy="Give it what convert made.")
    if gains_of and calibration is None:
        remedy = "Pass calibration=, as calibrate returned it."
        raise QuantizationError("what a layer gains in fp32 cannot be told without its calibration", remedy=remedy)
    fused = _float_graph(quantized, model)
    x = check_batch(batch, 0, "inspected")
    found = Inspection(
        inspect_layers(fused, quantized, x), quantized.plan.fp32_layers, _output_db(fused, quantized, x), len(x)
    )
    if not gains_of or calibration is None:
        return found
    told = {row.name: row for row in gains(fused, quantized, calibration, found.worst(gains_of), x)}
    layers = tuple(told.get(row.name, row) for row in found.layers)
    return Inspection(layers, found.fp32_layers, found.output_db, found.images)


def _float_graph(quantized: QuantizedModule, model: nn.Module) -> FusedModule:
    """What the int8 layers stand for, one by one."""
    if isinstance(model, PreparedModule):
        return model.fused
    qconfig = quantized.qconfig
    if qconfig.equalization or qconfig.smooth_quant:
        raise QuantizationError(
            f"qconfig {qconfig.name} changed the float weights, so that layers of the model as it was say nothing",
            stage="inspect",
            remedy="Give inspect what prepare returned.",
        )
    return model if isinstance(model, FusedModule) else fuse(model)


def inspect_layers(fused: FusedModule, quantized: QuantizedModule, x: Tensor) -> tuple[LayerError, ...]:
    """Every int8 layer's figures on the images `x`, in graph order."""
    weights = _weights_db(fused, quantized)
    return tuple(watch.row(weights.get(name)) for name, watch in walk(fused, quantized, x).items())


@torch.inference_mode()
def _output_db(fused: FusedModule, quantized: QuantizedModule, x: Tensor) -> float | None:
    reference, actual = fused(x), quantized(x)
    return sqnr_db(reference, actual) if isinstance(reference, Tensor) else None


def _weights_db(fused: FusedModule, quantized: QuantizedModule) -> dict[str, float]:
    """SQNR of each quantized weight against the float one, averaged over output channels."""
    floats = {key_of(node): layer_of(fused, node) for node in fused.graph.nodes}
    found = {}
    for node in quantized.graph.nodes:
        layer, twin = layer_of(quantized, node), floats.get(key_of(node))
        weight = getattr(twin, "weight", None)
        if isinstance(layer, QuantizedWeighted) and isinstance(weight, Tensor) and weight.shape == layer.weight.shape:
            scales = layer.scales.view(-1, *[1] * (weight.ndim - 1))
            found[key_of(node)] = _channels_db(weight.flatten(1), (layer.weight * scales).flatten(1))
    return found


def _channels_db(weight: Tensor, stored: Tensor) -> float:
    """SQNR in which every output channel counts alike: small ones under one scale for all would not be seen else."""
    signal = weight.double().square().sum(1)
    noise = (weight.double() - stored.double()).square().sum(1)
    share = noise[signal > 0] / signal[signal > 0]
    return sqnr_db(torch.ones_like(share), 1 - share.sqrt()) if len(share) else CAP_DB


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)
