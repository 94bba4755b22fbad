"""Integers laid on the pixels of an input, and what that shifts taken out behind them.

A model's input that lies on a grid is stored exactly, with zero between two integers (`observers/grid.py`). Integers
stand for numbers that are off by the same part of a step everywhere, and a layer's sum over weights and such numbers is
off by a constant, which its bias takes out. Only padding, which is a whole number, keeps the shift.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from pytest_ptq.engine.graph import call_nodes, layer_of, put_layer
from pytest_ptq.engine.modules import Quantize, QuantizedWeighted

SMALLEST = 1e-3
"""Shifts below this part of a step are float32's own."""


def align(converted: fx.GraphModule, shifts: Mapping[str, float]) -> None:
    """Let inputs be stored with a shift where every layer that reads them can take it out again.

    Args:
        converted: the int8 graph, changed in place.
        shifts: by an input's name, how far its zero lies above the zero point, in steps.
    """
    calls = [str(node.target) for node in call_nodes(converted)]
    for node in call_nodes(converted):
        layer, shift = layer_of(converted, node), shifts.get(str(node.args[0]), 0.0)
        if not isinstance(layer, Quantize) or abs(shift) < SMALLEST:
            continue
        readers = [(user, layer_of(converted, user)) for user in node.users]
        if all(_takes_out(user, node, reader) and calls.count(str(user.target)) == 1 for user, reader in readers):
            put_layer(converted, str(node.target), Quantize(layer.out, shift))
            for user, reader in readers:
                assert isinstance(reader, QuantizedWeighted)
                put_layer(converted, str(user.target), _without(reader, shift * layer.out.scale))


def _takes_out(user: fx.Node, read: fx.Node, layer: object) -> bool:
    return isinstance(layer, QuantizedWeighted) and user.args[0] is read and read not in user.args[1:]


def _without(layer: QuantizedWeighted, shift: float) -> QuantizedWeighted:
    """The layer with a bias that takes out what an input too large by `shift` adds to its sums."""
    sums = layer.weight.flatten(1).sum(1).float() * layer.scales * shift
    return layer.with_tensors(bias=-sums if layer.bias is None else layer.bias - sums)
