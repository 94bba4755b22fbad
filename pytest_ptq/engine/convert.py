"""Fused graph + plan + calibration -> int8 graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import fx, nn

from pytest_ptq.engine.affine import QParams, clip_weight
from pytest_ptq.engine.align import align
from pytest_ptq.engine.blocks import Block
from pytest_ptq.engine.calibrate import Calibration
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import (
    StageModule,
    call_nodes,
    finish,
    insert_between,
    layer_of,
    open_copy,
    replace_chain,
    unique_path,
)
from pytest_ptq.engine.modules import DeQuantize, Int8Layer, Quantize, QuantizedConv2d
from pytest_ptq.engine.op import Op
from pytest_ptq.engine.ops import describe_call, find_op, holds_numbers, tensor_inputs
from pytest_ptq.engine.plan import QuantPlan
from pytest_ptq.engine.verify import verify_converted
from pytest_ptq.qconfig import QConfig


class QuantizedModule(StageModule):
    """A model that computes in int8. Takes and returns float32, as the model it was made from."""

    stage = "converted"
    plan: QuantPlan
    qconfig: QConfig
    made: Mapping[str, object] | None = None
    """Where and how it was made, when it was read from a file."""
    notes: tuple[str, ...] = ()
    """What corrections did, and which were left out because they did harm or had nothing to correct."""
    stored: Mapping[str, QParams]
    """Scale and zero point by the layer whose output carries them."""


def convert(fused: FusedModule, plan: QuantPlan, calibration: Calibration, qconfig: QConfig) -> QuantizedModule:
    """Put int8 layers where the plan says so, and Quantize and DeQuantize at their borders."""
    qparams = calibration.qparams(plan)
    converted = open_copy(fused, QuantizedModule)
    converted.plan, converted.qconfig = plan, qconfig
    by_name = {node.name: node for node in converted.graph.nodes}
    if plan.clips_weights:
        _clip_weights(converted, plan, by_name, qparams)
    names = {node: name for name, node in by_name.items()}
    stored = {name: qparams[source] for name, source in plan.sources.items()}
    converted.stored = {by_name[name].meta["layer"]: q for name, q in stored.items()}
    for name, decision in plan.nodes.items():
        op = find_op(converted, by_name[name])
        if decision.int8 and op is not None and op.lower is not None:
            new = _lower(converted, by_name[name], op, plan, stored, names)
            by_name[name], names[new] = new, name
    _place_boundaries(converted, plan, stored, by_name)
    align(converted, calibration.shifts(plan))
    mark_overwrites(converted)
    finish(converted)
    verify_converted(converted)
    return converted


def _clip_weights(
    converted: QuantizedModule, plan: QuantPlan, by_name: Mapping[str, fx.Node], qparams: Mapping[str, QParams]
) -> None:
    """Clip the weights of what becomes int8, each layer's once, however often it is called."""
    clipped: set[int] = set()
    for name, decision in plan.nodes.items():
        layer = layer_of(converted, by_name[name])
        if decision.int8 and isinstance(layer, Block) and id(layer) not in clipped:
            read = qparams[plan.sources[tensor_inputs(by_name[name])[0].name]]
            layer.weight = clip_weight(layer.weight, plan.per_channel, read.quant_max if plan.reduce_range else None)
            clipped.add(id(layer))


def _lower(
    converted: QuantizedModule,
    node: fx.Node,
    op: Op,
    plan: QuantPlan,
    stored: dict[str, QParams],
    names: Mapping[fx.Node, str],
) -> fx.Node:
    """Put the int8 layer of one node in its place, at the path of the layer it comes from."""
    assert op.lower is not None
    reads = tensor_inputs(node)
    out = stored[names[node]] if plan.nodes[names[node]].output == "uint8" else None
    call = replace(describe_call(converted, node, op, plan.per_channel), reduce_range=plan.reduce_range)
    layer = op.lower(call, [stored[names[r]] for r in reads], out)
    path = node.meta["layer"] if node.op == "call_module" else unique_path(converted, node.meta["layer"])
    return replace_chain(converted, [node], path, layer, tuple(reads))


def _place_boundaries(
    converted: QuantizedModule, plan: QuantPlan, stored: dict[str, QParams], by_name: dict[str, fx.Node]
) -> None:
    """One Quantize for each fp32 value that integers read, one DeQuantize for each integer value that fp32 reads."""
    names = {new: name for name, new in by_name.items()}

    def is_int8(node: fx.Node) -> bool:
        decision = plan.nodes.get(names.get(node, ""))
        return decision is not None and decision.int8

    for name, node in by_name.items():
        decision = plan.nodes.get(name)
        integers = decision is not None and decision.output == "uint8"
        strangers = [user for user in node.users if is_int8(user) != integers and not holds_numbers(user)]
        if strangers and (integers or name in stored):
            layer: nn.Module = DeQuantize(stored[name]) if integers else Quantize(stored[name])
            path = f"{node.meta['layer']}.{'dequantize' if integers else 'quantize'}"
            insert_between(converted, node, strangers, unique_path(converted, path), layer)


def mark_overwrites(converted: QuantizedModule) -> None:
    """Let a convolution write over its residual where nobody reads that memory afterwards.

    Only memory that an int8 layer has just made counts, and a value that is also read through a view does not.
    """
    position = {node: i for i, node in enumerate(converted.graph.nodes)}
    for node in call_nodes(converted):
        layer = layer_of(converted, node)
        if isinstance(layer, QuantizedConv2d) and layer.adds:
            residual = node.args[1]
            assert isinstance(residual, fx.Node)
            fresh = isinstance(layer_of(converted, residual), (Int8Layer, Quantize))
            viewed = any(not isinstance(layer_of(converted, user), (Int8Layer, DeQuantize)) for user in residual.users)
            last = all(position[user] <= position[node] for user in residual.users)
            layer.overwrites = fresh and last and not viewed and node.args[0] is not residual
