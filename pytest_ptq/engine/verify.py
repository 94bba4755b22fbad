"""The grammar of a legal graph after each stage. A violation is a fault of the engine, not of the user."""

from __future__ import annotations

from collections.abc import Set

from torch import fx, nn

from pytest_ptq.engine.blocks import Block
from pytest_ptq.engine.graph import call_nodes, layer_of
from pytest_ptq.engine.modules import DeQuantize, Int8Layer, Quantize
from pytest_ptq.engine.op import Kind
from pytest_ptq.engine.ops import find_op, holds_numbers, is_identity, tensor_inputs
from pytest_ptq.errors import VerificationError


def _fail(stage: str, node: fx.Node, message: str) -> None:
    raise VerificationError(
        message, place=f"{stage} graph, {node.meta.get('layer', node.name)}", remedy="Please report it."
    )


def verify_fused(fused: fx.GraphModule) -> None:
    """Nothing that does nothing is left, and no batch norm follows a convolution that it could be folded into."""
    for node in call_nodes(fused):
        if is_identity(fused, node):
            _fail("fused", node, "an operation without effect in eval mode is left")
        norm = layer_of(fused, node)
        if type(norm) is nn.BatchNorm2d and norm.running_mean is not None:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            block = layer_of(fused, source)
            if isinstance(block, Block) and block.activation == "none" and not block.adds and len(source.users) == 1:
                _fail("fused", node, "a batch norm behind a convolution was not folded")


def verify_observed(observed: Set[str], planned: Set[str]) -> None:
    """Exactly the tensors of the plan are observed."""
    if observed != planned:
        odd = sorted(observed ^ planned)
        raise VerificationError(
            "observers and plan differ", place=f"prepared graph, {odd[0]}", remedy="Please report it."
        )


def verify_converted(converted: fx.GraphModule) -> None:
    """Integers meet only integer layers and fp32 only fp32 ones, and no value makes a detour through fp32."""
    for node in call_nodes(converted):
        layer = layer_of(converted, node)
        reads = [stores_integers(converted, n) for n in node.all_input_nodes]
        if isinstance(layer, (Int8Layer, DeQuantize)) and not all(reads):
            _fail("converted", node, "an int8 layer reads fp32")
        if any(reads) and not isinstance(layer, (Int8Layer, DeQuantize)) and not _only_rearranges(converted, node):
            _fail("converted", node, "an fp32 layer reads integers")
    if detours := count_detours(converted):
        raise VerificationError(f"{detours} values pass from int8 to int8 through fp32", place="converted graph")


def _only_rearranges(converted: fx.GraphModule, node: fx.Node) -> bool:
    op = find_op(converted, node)
    return holds_numbers(node) or (op is not None and op.kind is Kind.SHARES and op.lower is None)


def count_detours(converted: fx.GraphModule) -> int:
    """Quantize nodes that read a DeQuantize: integers that were turned to fp32 and back between int8 neighbours."""
    return sum(
        isinstance(layer_of(converted, node), Quantize) and isinstance(layer_of(converted, source), DeQuantize)
        for node in call_nodes(converted)
        for source in node.all_input_nodes
    )


def stores_integers(converted: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node's value is uint8. Operations that only rearrange pass on what they read (flatten, permute)."""
    layer = layer_of(converted, node)
    if isinstance(layer, Quantize):
        return True
    if isinstance(layer, Int8Layer):
        return layer.writes_integers
    op = find_op(converted, node)
    if op is None or op.kind is not Kind.SHARES:
        return False
    return any(stores_integers(converted, n) for n in tensor_inputs(node))
