"""The int8 graph as a float graph that rounds where the int8 layers do: what the exporter traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import fx, nn

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.export.layers import TWINS, Rounded
from pytest_ptq.engine.export.lookups import channel_lookup_twin, lookup_twin
from pytest_ptq.engine.export.padding import fold_padding, pad_twin
from pytest_ptq.engine.export.placement import Placement
from pytest_ptq.engine.export.pools import POOLS
from pytest_ptq.engine.export.replaced import replace_layer
from pytest_ptq.engine.export.spelled import spell_out
from pytest_ptq.engine.export.tensors import rounded_nodes, stored_as
from pytest_ptq.engine.export.weighted import WEIGHTED
from pytest_ptq.engine.graph import (
    StageModule,
    call_nodes,
    finish,
    insert_after,
    layer_of,
    stage_copy,
    unique_path,
)
from pytest_ptq.engine.modules import (
    DeQuantize,
    Int8Layer,
    Quantize,
    QuantizedChannelLookup,
    QuantizedLookup,
    QuantizedPad,
)
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
        if layer is None or not isinstance(layer, (Int8Layer, Quantize, DeQuantize)):
            if node.name in stored and how.rounds_moves and not _gives_parts(node):
                _round_moved(twin, node, stored[node.name], how)
            continue
        read = stored.get(node.all_input_nodes[0].name)
        # No runtime adds in a convolution what that convolution reads itself.
        placed = replace(how, fine_sums=False) if node.args[1:] == node.args[:1] else how
        replace_layer(twin, str(node.target), _twin_of(str(node.target), layer, read, placed, seen))
    fold_padding(twin)
    spell_out(twin)
    finish(twin)
    return twin


ALL: Mapping[type[nn.Module], Any] = {
    **TWINS, **POOLS, QuantizedPad: pad_twin, QuantizedLookup: lookup_twin, QuantizedChannelLookup: channel_lookup_twin,
}  # fmt: skip


def _twin_of(path: str, layer: nn.Module, read: QParams | None, how: Placement, seen: Ranges) -> nn.Module:
    kind = type(layer)
    made: nn.Module
    if kind in WEIGHTED:
        made = WEIGHTED[kind](layer, how, seen.get(path))
        return made
    if kind not in ALL:
        raise ExportError(
            f"{kind.__name__} has no form in ONNX",
            place=f"layer {path}",
            remedy="Keep it in fp32: name it in the qconfig's fp32_layers.",
        )
    made = ALL[kind](layer, read, how)
    return made


def _gives_parts(node: fx.Node) -> bool:
    """A chunk or split: what its users take out of it is rounded, each part by itself."""
    name = str(getattr(node.target, "__name__", node.target))
    return name in ("chunk", "split", "unbind")


def _round_moved(twin: ExportableModule, node: fx.Node, q: QParams, how: Placement) -> None:
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
