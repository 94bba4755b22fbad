"""Where accuracy is lost and what runs in int8: coverage, error by layer, and what a layer would gain in fp32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils.flop_counter import FlopCounterMode

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.calibrate import Calibration
from pytest_ptq.engine.convert import QuantizedModule, convert
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of
from pytest_ptq.engine.kernels import dequantize
from pytest_ptq.engine.plan import make_plan
from pytest_ptq.engine.verify import count_detours
from pytest_ptq.errors import QuantizationError
from pytest_ptq.metrics import LayerError

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


class _Counter(fx.Interpreter):
    """Runs a graph and counts the multiply-accumulates of every node, whatever form they come in."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.macs: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        with FlopCounterMode(display=False) as counter:
            value = super().run_node(n)
        self.macs[n.name] = counter.get_total_flops() // 2
        return value


def count_macs(module: fx.GraphModule, x: Tensor) -> dict[str, int]:
    """Multiply-accumulates by node for one input batch: of layers, functions and attention alike."""
    counter = _Counter(module)
    fastpath = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # one fused operation, in which nothing can be counted
        with torch.no_grad():
            counter.run(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    return counter.macs


def coverage(fused: FusedModule, quantized: QuantizedModule, x: Tensor) -> Coverage:
    """Count multiply-accumulates on the float graph for one input batch, and say which run in int8."""
    macs = count_macs(fused, x)
    decisions = quantized.plan.nodes
    int8 = sum(n for name, n in macs.items() if name in decisions and decisions[name].int8)
    kept = [node for node in fused.graph.nodes if node.name in decisions and not decisions[node.name].int8]
    tensors = {id(t): t.numel() for node in kept for t in _weights_of(fused, node)}
    return Coverage(
        int8, sum(macs.values()), count_detours(quantized), quantized.plan.fp32_layers, sum(tensors.values())
    )


def _weights_of(fused: FusedModule, node: fx.Node) -> list[Tensor]:
    """What a node computes with: its layer's tensors, or those that the graph hands to a function."""
    layer = layer_of(fused, node)
    found: list[Any] = [*layer.parameters(), *layer.buffers()] if layer is not None else []
    for read in node.all_input_nodes:
        if read.op == "get_attr":
            owner, _, name = str(read.target).rpartition(".")
            found.append(getattr(fused.get_submodule(owner), name))
    return [t for t in found if isinstance(t, Tensor)]


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
        without = replace(q, fp32_layers=(*q.fp32_layers, row.name), reduce_range=quantized.plan.reduce_range)
        try:
            candidate = convert(fused, make_plan(fused, without), calibration, without)
        except QuantizationError:  # a model of one layer has nothing left to quantize: no gain can be told
            found.append(row)
            continue
        found.append(replace(row, gain_db=sqnr_db(reference, candidate(x)) - before))
    return tuple(found)
