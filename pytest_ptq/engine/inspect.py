"""Where accuracy is lost and what runs in int8: coverage, error by layer, and what a layer would gain in fp32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.blocks import Block
from pytest_ptq.engine.calibrate import Calibration
from pytest_ptq.engine.convert import QuantizedModule, convert
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of
from pytest_ptq.engine.kernels import dequantize
from pytest_ptq.engine.plan import make_plan
from pytest_ptq.engine.verify import count_detours
from pytest_ptq.errors import QuantizationError

CAP_DB = 200.0
"""Reported for outputs that are equal bit for bit, whose ratio would be infinite."""


@dataclass(frozen=True)
class Coverage:
    """How much of a model runs in int8.

    Args:
        int8_macs, total_macs: multiply-accumulates for one input.
        detours: values that pass from int8 to int8 through fp32.
        fp32_layers: (layer, reason) of what stayed in fp32.
        fp32_parameters: numbers in weights of layers that stayed in fp32.
    """

    int8_macs: int
    total_macs: int
    detours: int
    fp32_layers: tuple[tuple[str, str], ...]
    fp32_parameters: int


@dataclass(frozen=True)
class LayerError:
    """Error of one layer's output on the same input images, all layers before it being in int8 too."""

    layer: str
    kind: str
    sqnr_db: float
    gain_db: float | None = None
    """What the model's output gains in SQNR when this layer alone stays in fp32; None when not tried."""


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the value of every node that `keep` asks for."""

    def __init__(self, module: fx.GraphModule, keep: set[str] | None = None) -> None:
        super().__init__(module)
        self.keep = keep
        self.seen: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        layer = n.meta.get("layer", n.name)
        if isinstance(value, Tensor) and (self.keep is None or layer in self.keep):
            self.seen.setdefault(layer, value.clone() if value.dtype is torch.uint8 else value)
        return value


@torch.inference_mode()
def coverage(fused: FusedModule, quantized: QuantizedModule, x: Tensor) -> Coverage:
    """Count multiply-accumulates on the float graph for one input batch, and say which run in int8."""
    recorder = _Recorder(fused)
    recorder.run(x)
    decisions = {d.layer: d for d in quantized.plan.nodes.values()}
    int8 = total = parameters = 0
    for node in fused.graph.nodes:
        layer = layer_of(fused, node)
        if layer is None:
            continue
        path = node.meta["layer"]
        macs = layer_macs(layer, recorder.seen.get(path))
        total += macs
        if decisions[path].int8:
            int8 += macs
        else:
            parameters += sum(t.numel() for t in (*layer.parameters(), *layer.buffers()))
    return Coverage(int8, total, count_detours(quantized), quantized.plan.fp32_layers, parameters)


def layer_macs(layer: nn.Module, output: Tensor | None) -> int:
    """Multiply-accumulates of one call; 0 for layers that have no weights to multiply with."""
    if output is None:
        return 0
    if isinstance(layer, Block):
        return layer.macs(output)
    if isinstance(layer, (_ConvNd, nn.Linear)):
        return output.numel() * layer.weight[0].numel()
    return 0


def sqnr_db(reference: Tensor, other: Tensor) -> float:
    """10 log10 of signal power over error power, in dB."""
    signal = float(reference.double().square().sum())
    noise = float((reference.double() - other.double()).square().sum())
    if not noise:
        return CAP_DB
    return max(min(10 * math.log10(signal / noise), CAP_DB), -CAP_DB) if signal else -CAP_DB


@torch.inference_mode()
def layer_errors(fused: FusedModule, quantized: QuantizedModule, x: Tensor) -> tuple[LayerError, ...]:
    """SQNR of every int8 layer's output against the float graph, in graph order."""
    layers = {d.layer: d.op for d in quantized.plan.nodes.values() if d.int8}
    reference = _Recorder(fused, set(layers))
    reference.run(x)
    actual = _Recorder(quantized, set(layers))
    actual.run(x)
    rows = []
    for layer, op in layers.items():
        value = actual.seen[layer]
        if value.dtype is torch.uint8:
            value = dequantize(value, _stored_as(quantized, layer))
        rows.append(LayerError(layer, op, sqnr_db(reference.seen[layer], value)))
    return tuple(rows)


def _stored_as(quantized: QuantizedModule, layer: str) -> QParams:
    return quantized.stored[layer]


@torch.inference_mode()
def gains(
    fused: FusedModule, quantized: QuantizedModule, calibration: Calibration, rows: Sequence[LayerError], x: Tensor
) -> tuple[LayerError, ...]:
    """The same rows with what the output gains when each layer alone is left in fp32: one conversion a row."""
    reference = fused(x)
    before = sqnr_db(reference, quantized(x))
    found = []
    for row in rows:
        q = quantized.qconfig
        without = replace(q, fp32_layers=(*q.fp32_layers, row.layer), reduce_range=quantized.plan.reduce_range)
        try:
            candidate = convert(fused, make_plan(fused, without), calibration, without)
        except QuantizationError:  # a model of one layer has nothing left to quantize: no gain can be told
            found.append(row)
            continue
        found.append(replace(row, gain_db=sqnr_db(reference, candidate(x)) - before))
    return tuple(found)
