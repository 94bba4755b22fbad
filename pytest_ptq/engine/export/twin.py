"""The int8 graph as a float graph that rounds where the int8 layers do: what the exporter traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.export.layers import TWINS, Rounded
from pytest_ptq.engine.export.lookups import channel_lookup_twin, lookup_twin
from pytest_ptq.engine.export.placement import Placement
from pytest_ptq.engine.export.tensors import rounded_nodes, stored_as
from pytest_ptq.engine.export.weighted import WEIGHTED
from pytest_ptq.engine.graph import (
    StageModule,
    call_nodes,
    finish,
    insert_after,
    layer_of,
    put_layer,
    stage_copy,
    unique_path,
)
from pytest_ptq.engine.modules import Int8Layer, QuantizedChannelLookup, QuantizedLookup
from pytest_ptq.errors import ExportError

Ranges = Mapping[str, tuple[float, float]]
"""What was observed before a residual or an activation, by layer path."""


class ExportableModule(StageModule):
    stage = "exportable"


def make_twin(model: QuantizedModule, how: Placement, seen: Ranges) -> ExportableModule:
    """A float graph with the answers of the int8 one, up to the rounding that the runtime asks for.

    Raises:
        ExportError: a layer for which there is no such form.
    """
    stored = {node.name: q for node, q in stored_as(model).items()}
    twin = stage_copy(model, ExportableModule)
    for node in call_nodes(twin):
        layer = layer_of(twin, node)
        if layer is None or not _is_int8(layer):
            if node.name in stored and how.rounds_moves and not _gives_parts(node):
                _round_moved(twin, node, stored[node.name], how)
            continue
        read = stored.get(node.all_input_nodes[0].name)
        put_layer(twin, str(node.target), _twin_of(str(node.target), layer, read, how, seen))
    finish(twin)
    return twin


def _is_int8(layer: nn.Module) -> bool:
    return isinstance(layer, Int8Layer) or type(layer) in TWINS


def _twin_of(path: str, layer: nn.Module, read: Any, how: Placement, seen: Ranges) -> nn.Module:
    kind = type(layer)
    if kind in WEIGHTED:
        made: nn.Module = WEIGHTED[kind](layer, how, seen.get(path))
        return made
    if kind is QuantizedLookup or kind is QuantizedChannelLookup:
        make: Any = lookup_twin if kind is QuantizedLookup else channel_lookup_twin
        return make(layer, read, how)  # type: ignore[no-any-return]
    if kind not in TWINS:
        raise ExportError(
            f"{kind.__name__} has no form in ONNX", place=f"layer {path}", remedy="Keep it in fp32 (fp32_layers)."
        )
    return TWINS[kind](layer, read, how)


def _gives_parts(node: fx.Node) -> bool:
    """A chunk or split: what its users take out of it is rounded, each part by itself."""
    name = str(getattr(node.target, "__name__", node.target))
    return name in ("chunk", "split", "unbind")


def _round_moved(twin: ExportableModule, node: fx.Node, q: Any, how: Placement) -> None:
    path = unique_path(twin, f"{node.meta['layer']}.round")
    new = insert_after(twin, node, path, Rounded(lambda v: v, q, how))
    new.meta = dict(node.meta)


def give_quantized_tensors(twin: ExportableModule, model: QuantizedModule) -> list[str]:
    """Make every quantized tensor of the model a further output of the twin. Returns their layer paths, in order."""
    by_name = {node.name: node for node in twin.graph.nodes}
    paths = {path: by_name[node.name] for path, node in rounded_nodes(model).items()}
    (output,) = (node for node in twin.graph.nodes if node.op == "output")
    output.args = ((output.args[0], *paths.values()),)
    twin.recompile()
    return list(paths)
