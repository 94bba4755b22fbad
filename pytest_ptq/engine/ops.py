"""Which row of the op table a node matches, and what the row needs to know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from pytest_ptq.engine.graph import call_nodes, layer_of
from pytest_ptq.engine.op import Call, Kind, Op
from pytest_ptq.engine.table import OPS

_BY_MODULE: dict[type, Op] = {module: op for op in OPS for module in op.modules}
_BY_FUNCTION = {function: op for op in OPS for function in op.functions}
_BY_METHOD = {method: op for op in OPS for method in op.methods}
_BY_NAME = {name: op for op in OPS for name in op.elsewhere}


def find_op(module: fx.GraphModule, node: fx.Node) -> Op | None:
    """The row that a node matches, or None."""
    if node.op == "call_module":
        kind = type(layer_of(module, node))
        return _BY_MODULE.get(kind) or _named(kind)
    if node.op == "call_function":
        return _BY_FUNCTION.get(node.target) or _named(node.target)  # type: ignore[arg-type]
    if node.op == "call_method":
        return _BY_METHOD.get(str(node.target))
    return None


def _named(what: object) -> Op | None:
    return _BY_NAME.get(f"{getattr(what, '__module__', '')}.{getattr(what, '__qualname__', '')}")


def is_identity(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node returns what it reads."""
    op = find_op(module, node)
    return op is not None and op.kind is Kind.IDENTITY and not op.when(describe_call(module, node, op))


def describe_call(module: fx.GraphModule, node: fx.Node, op: Op, per_channel: bool = True) -> Call:
    """What `when` and `lower` need to know of a node."""
    layer = layer_of(module, node)
    reads = tensor_inputs(node)

    def known(value: Any) -> Any:
        return fx.map_arg(value, lambda n: None)

    constants = [known(a) for a in node.args if a not in reads]
    named = {k: known(v) for k, v in node.kwargs.items() if v not in reads}
    return Call(
        layer, {**dict(zip(op.parameters, constants, strict=False)), **named}, len(reads), per_channel,
        any(map(holds_numbers, node.all_input_nodes)), _applier(node, layer),
    )  # fmt: skip


def _applier(node: fx.Node, layer: nn.Module | None) -> Callable[[Tensor], Any]:
    def apply(x: Tensor) -> Any:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: x)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        function: Any = node.target if layer is None else layer
        return function(*args, **kwargs)

    return apply


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """The tensors a node reads, in the order of its arguments and with repetitions (x + x reads x twice)."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), lambda n: found.append(n))
    return [n for n in found if not holds_numbers(n)]


def tensor_nodes(module: fx.GraphModule) -> Iterator[fx.Node]:
    """Nodes that compute a tensor, in order."""
    return (node for node in call_nodes(module) if not holds_numbers(node))


_ASKS_FOR_NUMBERS = ("size", "dim", "numel", "ndimension")


def holds_numbers(node: fx.Node) -> bool:
    """True for sizes and what is computed from sizes alone: the same whether the tensor holds int8 or fp32."""
    if node.op == "call_method":
        return node.target in _ASKS_FOR_NUMBERS
    # Arithmetic, comparisons and getitem, and what is asserted of them; not torch.zeros(n), which makes a tensor.
    plain = getattr(node.target, "__module__", "") == "_operator" or node.target is torch._assert
    return plain and bool(node.all_input_nodes) and all(map(holds_numbers, node.all_input_nodes))
