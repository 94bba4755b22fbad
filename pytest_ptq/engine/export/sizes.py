"""Sizes that do not depend on the batch, as constants: runtimes see through a reshape whose shape they know.

A tracer takes every size of a tensor down as something to be computed. Which depend on the number of images is seen by
running the graph with two of them and with three.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from pytest_ptq.engine.export.weighted import FloatFlatNorm, FloatLinear
from pytest_ptq.engine.graph import StageModule, call_nodes, layer_of
from pytest_ptq.engine.ops import holds_numbers

RESHAPES = frozenset({"view", "reshape"})


class _Sizes(fx.Interpreter):
    """Runs a graph and keeps numbers, and shapes of tensors."""

    def __init__(self, stage: StageModule) -> None:
        super().__init__(stage)
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.found[n] = _shapes(value)
        return value


def _shapes(value: Any) -> Any:
    """Shapes in the place of tensors."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return tuple(map(_shapes, value)) if isinstance(value, (tuple, list)) else value


def fix_sizes(twin: StageModule, example: Tensor) -> None:
    """Put constants where the graph computes sizes that are the same for every batch. Changes the twin in place."""
    two, three = (_run(twin, torch.cat([example[:1]] * count)) for count in (2, 3))
    for node in call_nodes(twin):
        if holds_numbers(node):
            continue
        node.args, node.kwargs = fx.map_arg(
            (node.args, node.kwargs),
            lambda n: two[n] if holds_numbers(n) and two[n] == three[n] and _plain(two[n]) else n,
        )
        if str(getattr(node.target, "__name__", node.target)) in RESHAPES:
            node.args = _with_one_free(node.args)
        elif node.target in ("chunk", torch.chunk):
            _split(node, two[node], three[node])
        layer = layer_of(twin, node)
        if isinstance(layer, (FloatLinear, FloatFlatNorm)):
            first = node.all_input_nodes[0]
            layer.free = [i for i, (a, b) in enumerate(zip(two[first], three[first], strict=True)) if a != b]
    twin.graph.eliminate_dead_code()
    twin.recompile()


def _run(twin: StageModule, x: Tensor) -> dict[fx.Node, Any]:
    run = _Sizes(twin)
    run.run(x)
    return run.found


def _plain(value: Any) -> bool:
    """A number, or several, that a graph can hold."""
    if isinstance(value, (tuple, list)):
        return all(map(_plain, value))
    return isinstance(value, (bool, int, float))


def _split(node: fx.Node, two: Any, three: Any) -> None:
    """A chunk as a split into known sizes, where it is not the batch that is cut."""
    given = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
    assert isinstance(given, int)
    dim = given % len(two[0])
    sizes = [shape[dim] for shape in two]
    if sizes == [shape[dim] for shape in three]:
        node.op, node.target, node.args, node.kwargs = "call_function", torch.split, (node.args[0], sizes, dim), {}


def _with_one_free(args: Any) -> Any:
    """The arguments of a reshape; the only size that is computed becomes -1."""
    tensor, *sizes = args
    listed = len(sizes) == 1 and isinstance(sizes[0], (tuple, list))
    given = list(sizes[0]) if listed else list(sizes)
    computed = [i for i, size in enumerate(given) if isinstance(size, fx.Node)]
    if len(computed) != 1 or -1 in given:
        return args
    given[computed[0]] = -1
    return (tensor, tuple(given)) if listed else (tensor, *given)
