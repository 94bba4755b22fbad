"""Fused graph + QConfig -> QuantPlan: pure data that says which tensor is stored how, and why not where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, fx

from pytest_ptq.engine import kernels
from pytest_ptq.engine.affine import PAIRED, UINT8, adds_in_pairs
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of
from pytest_ptq.engine.op import Kind, Op
from pytest_ptq.engine.ops import describe_call, find_op, tensor_inputs, tensor_nodes
from pytest_ptq.engine.sharing import leave_to_fp32, share_scales
from pytest_ptq.errors import QuantizationError, UnknownNameError
from pytest_ptq.qconfig import QConfig


@dataclass(frozen=True)
class QSpec:
    """How a tensor is to be quantized."""

    observer: str
    bounds: tuple[int, int]
    symmetric: bool = False
    percentile: float | None = None


@dataclass(frozen=True)
class NodePlan:
    """What becomes of one node.

    Args:
        layer: the module path a person knows it by.
        op: canonical name of the operation, or what torch calls it.
        int8: whether it works on integers.
        why: the reason when it does not.
        output: `uint8` or `float32`.
    """

    layer: str
    op: str
    int8: bool
    why: str = ""
    output: str = "float32"


@dataclass(frozen=True)
class QuantPlan:
    """The whole decision. Keys are the names of graph nodes.

    Args:
        observed: tensors that get a range of their own.
        sources: for each integer tensor, the observed tensor whose scale and zero point it carries.
        per_channel: weights have one scale an output channel.
        reduce_range: no sum of two products leaves int16.
        clips_weights: weights are clipped where their squared error is smallest.
    """

    nodes: Mapping[str, NodePlan]
    observed: Mapping[str, QSpec]
    sources: Mapping[str, str]
    per_channel: bool
    reduce_range: bool
    clips_weights: bool = False

    @property
    def fp32_layers(self) -> tuple[tuple[str, str], ...]:
        """(layer, reason) of everything that stays in fp32."""
        return tuple((n.layer, n.why) for n in self.nodes.values() if not n.int8)


def make_plan(fused: FusedModule, qconfig: QConfig) -> QuantPlan:
    """Decide for every node, in graph order.

    Raises:
        QuantizationError: nothing in the model can be quantized.
        UnknownNameError: `fp32_layers` names a layer that is not there.
    """
    _check_names(fused, qconfig)
    reasons: dict[str, str] = {}
    ops: dict[str, Op | None] = {}
    for node in tensor_nodes(fused):
        op = ops[node.name] = find_op(fused, node)
        reasons[node.name] = _why_not(fused, node, op, reasons, qconfig)
    leave_to_fp32(fused, reasons, ops)
    if not any(not reason and _weighted(ops[name]) for name, reason in reasons.items()):
        raise QuantizationError(
            "the model has nothing to quantize: no convolution or linear layer that could run in int8",
            stage="plan",
            remedy="Found: "
            + (", ".join(sorted({_op_name(fused, n, ops[n.name]) for n in tensor_nodes(fused)})) or "no operation")
            + ".",
        )
    reduce_range = kernels.saturates_int16() if qconfig.reduce_range is None else qconfig.reduce_range
    spec = QSpec(
        qconfig.activation_observer,
        UINT8,
        qconfig.activation_scheme == "symmetric",
        qconfig.percentile,
    )
    nodes, sources = _assign(fused, reasons, ops)
    share_scales(fused, reasons, ops, sources)
    observed = dict.fromkeys((*dict.fromkeys(sources.values()), *_spares(fused, reasons, ops, sources)), spec)
    if reduce_range:
        paired = replace(spec, bounds=PAIRED)
        observed.update(dict.fromkeys(_added_in_pairs(fused, nodes, ops, sources), paired))
    return QuantPlan(
        nodes,
        observed,
        sources,
        qconfig.weight_granularity == "per_channel",
        reduce_range,
        qconfig.weight_observer == "mse",
    )


def _weighted(op: Op | None) -> bool:
    return op is not None and op.kind is Kind.WEIGHTED


def _op_name(fused: FusedModule, node: fx.Node, op: Op | None) -> str:
    layer = layer_of(fused, node)
    if op is None and layer is not None:
        return type(layer).__name__
    return op.name if op else str(getattr(node.target, "__name__", node.target))


def _check_names(fused: FusedModule, qconfig: QConfig) -> None:
    layers = [node.meta["layer"] for node in tensor_nodes(fused)]
    for name in qconfig.fp32_layers:
        if not any(_within(layer, name) for layer in layers):
            raise UnknownNameError("layer", name, layers, place=f"qconfig {qconfig.name}, fp32_layers")


def _within(layer: str, path: str) -> bool:
    return layer == path or layer.startswith(f"{path}.")


def _why_not(fused: FusedModule, node: fx.Node, op: Op | None, reasons: Mapping[str, str], qconfig: QConfig) -> str:
    """Why a node stays in fp32; empty when it runs in int8."""
    if any(_within(node.meta["layer"], name) for name in qconfig.fp32_layers):
        return f"kept in fp32 by qconfig {qconfig.name}"
    if op is None:
        return f"no int8 kernel for {_op_name(fused, node, None)}"
    if op.kind in (Kind.ELEMENTWISE, Kind.SHARES):
        reads = tensor_inputs(node)
        floats = [read for read in reads if reasons.get(read.name, "an input of the model")]
        if floats and not (op.mixes and len(floats) < len(reads)):
            return f"reads fp32 from {floats[0].meta.get('layer', floats[0].name)}"
    return op.when(describe_call(fused, node, op))


def _assign(
    fused: FusedModule, reasons: Mapping[str, str], ops: Mapping[str, Op | None]
) -> tuple[dict[str, NodePlan], dict[str, str]]:
    nodes: dict[str, NodePlan] = {}
    sources: dict[str, str] = {}
    for node in tensor_nodes(fused):
        op, reason = ops[node.name], reasons[node.name]
        output = "float32"
        if not reason and op is not None:
            for read in tensor_inputs(node):
                sources.setdefault(read.name, read.name)  # fp32 that is read by integers gets a range here
            if op.kind is Kind.SHARES:
                output = "uint8"
                sources[node.name] = sources[tensor_inputs(node)[0].name]
            elif _integers_wanted(fused, node, reasons):
                output = "uint8"
                sources[node.name] = node.name
        nodes[node.name] = NodePlan(node.meta["layer"], _op_name(fused, node, op), not reason, reason, output)
    return nodes, sources


def _added_in_pairs(
    fused: FusedModule, nodes: Mapping[str, NodePlan], ops: Mapping[str, Op | None], sources: Mapping[str, str]
) -> Iterator[str]:
    """Tensors whose products with weights are added two by two. All others keep eight bits under reduce_range too.

    So do the inputs of the model: pixels are 256 numbers, which eight bits hold exactly. Their weights give the bit.
    """
    inputs = {node.name for node in fused.graph.nodes if node.op == "placeholder"}
    for node in tensor_nodes(fused):
        if nodes[node.name].int8 and _weighted(ops[node.name]):
            weight = getattr(layer_of(fused, node), "weight", None)
            if isinstance(weight, Tensor) and adds_in_pairs(weight):
                source = sources[tensor_inputs(node)[0].name]
                if source not in inputs:
                    yield source


def _spares(
    fused: FusedModule, reasons: Mapping[str, str], ops: Mapping[str, Op | None], sources: Mapping[str, str]
) -> list[str]:
    """Tensors that carry another's range now, and need their own once a layer before them stays in fp32.

    Observing them too lets one calibration serve every choice of fp32 layers.
    """
    return [
        node.name
        for node in tensor_nodes(fused)
        if sources.get(node.name, node.name) != node.name
        and (op := ops[node.name]) is not None
        and op.kind is Kind.SHARES
        and any(not reasons.get(user.name, "output") and _needs_own_range(ops[user.name]) for user in node.users)
    ]


def _needs_own_range(op: Op | None) -> bool:
    return op is not None and op.kind in (Kind.WEIGHTED, Kind.ELEMENTWISE)


def _integers_wanted(fused: FusedModule, node: fx.Node, reasons: Mapping[str, str]) -> bool:
    """A result that only fp32 reads is left in fp32 by the kernel itself: it need not be rounded at all.

    The kernel that adds a residual is the exception: it writes over the residual, which is uint8.
    """
    adds = bool(getattr(layer_of(fused, node), "adds", False))
    return adds or any(not reasons.get(user.name, "the output of the model") for user in node.users)
