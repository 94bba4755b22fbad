"""Second thoughts of a plan: what is better left in fp32 after all, and which tensors can share one scale."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.op import Kind, Op
from pytest_ptq.engine.ops import holds_numbers, tensor_inputs, tensor_nodes

ONLY_FP32_READS = "moves values that only fp32 reads"


def leave_to_fp32(fused: FusedModule, reasons: dict[str, str], ops: Mapping[str, Op | None]) -> None:
    """What only moves values about for fp32 to read is fp32 too: the kernel before it then need not round them."""
    for node in reversed(list(tensor_nodes(fused))):
        op = ops[node.name]
        if op is not None and op.moves and not reasons[node.name] and _only_fp32_reads(node, reasons):
            reasons[node.name] = ONLY_FP32_READS


def _only_fp32_reads(node: fx.Node, reasons: Mapping[str, str]) -> bool:
    return all(reasons.get(user.name, "the output of the model") for user in node.users if not holds_numbers(user))


def share_scales(
    fused: FusedModule, reasons: Mapping[str, str], ops: Mapping[str, Op | None], sources: dict[str, str]
) -> None:
    """Let what is only read to be concatenated be stored in the scale of the whole: concatenation is then free.

    It has to come into that scale anyway, and is rounded once in place of twice.
    """
    for node in reversed(list(tensor_nodes(fused))):
        op = ops[node.name]
        if op is None or op.name != "cat" or reasons[node.name] or node.name not in sources:
            continue
        for read in tensor_inputs(node):
            maker = ops.get(read.name)
            keeps = maker is not None and maker.kind is Kind.SHARES and not reasons[read.name]
            if set(read.users) == {node} and not keeps:
                sources[read.name] = sources[node.name]
