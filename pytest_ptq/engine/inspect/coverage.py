"""How much of a model runs in int8, counted in multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of
from pytest_ptq.engine.verify import count_detours


@dataclass(frozen=True)
class Coverage:
    """How much of a model runs in int8.

    Args:
        int8_macs, total_macs: multiply-accumulates for one input.
        detours: values that pass from int8 to int8 through fp32.
        fp32_layers: (layer, reason) of what stayed in fp32.
        fp32_parameters: numbers in weights of layers that stayed in fp32.
        int8_layers: multiply-accumulates of each int8 layer that has any, by its path.
    """

    int8_macs: int
    total_macs: int
    detours: int
    fp32_layers: tuple[tuple[str, str], ...]
    fp32_parameters: int
    int8_layers: Mapping[str, int] = field(default_factory=dict, compare=False)


class _Counter(fx.Interpreter):
    """Runs a graph and counts the multiply-accumulates of every node, whatever form they come in."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.macs: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        from torch.utils.flop_counter import FlopCounterMode  # takes in Triton: 70 MB, for which no worker has a use

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
    int8 = {decisions[name].layer: n for name, n in macs.items() if n and name in decisions and decisions[name].int8}
    kept = [node for node in fused.graph.nodes if node.name in decisions and not decisions[node.name].int8]
    tensors = {id(t): t.numel() for node in kept for t in _weights_of(fused, node)}
    detours, left = count_detours(quantized), sum(tensors.values())
    return Coverage(sum(int8.values()), sum(macs.values()), detours, quantized.plan.fp32_layers, left, int8)


def _weights_of(fused: FusedModule, node: fx.Node) -> list[Tensor]:
    """What a node computes with: its layer's tensors, or those that the graph hands to a function."""
    layer = layer_of(fused, node)
    found: list[Any] = [*layer.parameters(), *layer.buffers()] if layer is not None else []
    for read in node.all_input_nodes:
        if read.op == "get_attr":
            owner, _, name = str(read.target).rpartition(".")
            found.append(getattr(fused.get_submodule(owner), name))
    return [t for t in found if isinstance(t, Tensor)]
