"""The quantized tensors of an int8 model: which there are, how each is stored, and what it holds on given inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.graph import call_nodes, layer_of
from pytest_ptq.engine.modules import DeQuantize, Int8Layer, IntegerLayer, Quantize
from pytest_ptq.engine.ops import holds_numbers, tensor_inputs


def stored_as(model: QuantizedModule) -> dict[fx.Node, QParams]:
    """Scale and zero point of every node whose value is stored as integers (or holds parts that are), in graph order.

    Read from the layers alone, so that a model from a file tells it too.
    """
    found: dict[fx.Node, QParams] = {}
    for node in call_nodes(model):
        layer = layer_of(model, node)
        if isinstance(layer, DeQuantize) or holds_numbers(node):
            continue
        own = layer.out if isinstance(layer, (Quantize, Int8Layer)) else None
        moved = not isinstance(layer, Int8Layer) or isinstance(layer, IntegerLayer)
        given = next((found[n] for n in tensor_inputs(node) if n in found), None) if moved else None
        if (q := own or given) is not None:
            found[node] = q
    return found


def rounded_nodes(model: QuantizedModule) -> dict[str, fx.Node]:
    """The nodes that round to integers, by layer path, in graph order; not those that only move integers about."""
    return {
        str(node.target): node
        for node in call_nodes(model)
        if isinstance(layer := layer_of(model, node), (Quantize, Int8Layer)) and layer.out is not None
    }


def quantized_tensors(model: QuantizedModule) -> Mapping[str, QParams]:
    """Scale and zero point of every tensor that the model rounds to integers, by layer path, in graph order.

    A tensor that only moves integers about (flatten, max pool, padding) holds what another one was rounded to, and is
    not listed.
    """
    stored = stored_as(model)
    return {path: stored[node] for path, node in rounded_nodes(model).items()}


class _Keeper(fx.Interpreter):
    """Runs the int8 graph and keeps what was rounded, before a later kernel writes over it."""

    def __init__(self, model: QuantizedModule) -> None:
        super().__init__(model)
        self.paths = {node: path for path, node in rounded_nodes(model).items()}
        self.kept: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.paths:
            self.kept[self.paths[n]] = value.clone()
        return value


@torch.inference_mode()
def run_quantized(model: QuantizedModule, x: Tensor) -> dict[str, Tensor]:
    """What each of `quantized_tensors` holds for the inputs `x` (N, ...): uint8, by layer path, in graph order."""
    keeper = _Keeper(model)
    keeper.run(x)
    return keeper.kept
