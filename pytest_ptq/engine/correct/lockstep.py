"""Walks over a graph that corrections share: all batches through one node before any goes through the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

Arguments = Sequence[tuple[Any, ...]]
"""The positional arguments of one node, for each batch."""
Visit = Callable[[fx.Node, Arguments], None]


@torch.no_grad()
def lockstep(module: fx.GraphModule, batches: Sequence[Tensor], visit: Visit) -> None:
    """Run several batches through a graph node by node, so that a layer can be changed before anything runs through it.

    Args:
        module: whose layers `visit` may replace; each is looked up when its turn comes.
        batches: inputs. All values that are still to be read are in memory at once.
        visit: called with each node that calls a layer, and what it is about to read, before it runs.
    """
    last = {read: node for node in module.graph.nodes for read in node.all_input_nodes}
    runner = fx.Interpreter(module)
    values: dict[fx.Node, list[Any]] = {}
    for node in module.graph.nodes:
        if node.op == "output":
            return
        if node.op == "placeholder":
            values[node] = list(batches)
            continue
        read = [_arguments(node, values, i) for i in range(len(batches))]
        if node.op == "call_module":
            visit(node, [args for args, _ in read])
        call = getattr(runner, node.op)
        values[node] = [call(node.target, args, kwargs) for args, kwargs in read]
        for used in node.all_input_nodes:
            if last[used] is node:
                values.pop(used, None)


def _arguments(node: fx.Node, values: dict[fx.Node, list[Any]], batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    found: tuple[tuple[Any, ...], dict[str, Any]] = fx.map_arg((node.args, node.kwargs), lambda n: values[n][batch])
    return found
