"""What a tracer records -> one form for each thing: the later stages meet no in-place operation and no shared layer."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from pytest_ptq.engine.functional import layers_for_functions
from pytest_ptq.engine.graph import call_nodes, layer_of, own_layer
from pytest_ptq.engine.ops import holds_numbers
from pytest_ptq.errors import CaptureError

_OUT_OF_PLACE: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv, operator.ifloordiv: operator.floordiv, operator.ipow: operator.pow,
    **{getattr(torch, f"{n}_"): getattr(torch, n) for n in ("relu", "sigmoid", "tanh", "clamp", "dropout")},
    F.leaky_relu_: F.leaky_relu, F.hardtanh_: F.hardtanh, F.elu_: F.elu,
}  # fmt: skip
_VIEWS = {
    "getitem", "view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "chunk", "split",
    "narrow", "select", "expand", "contiguous", "detach", "unflatten", "t", "movedim", "swapaxes", "unbind",
}  # fmt: skip
"""Operations whose result may be another name for the memory they read."""


def normalize(captured: fx.GraphModule) -> None:
    """Bring a traced graph, whose nodes carry their layers' names, into the form that the later stages know.

    Raises:
        CaptureError: an in-place operation changes memory that is also read under another name.
    """
    for node in call_nodes(captured):
        _ask_for_size(node)
        _place_input_first(node)
        _reshape_in_any_layout(node)
    layers_for_functions(captured)
    _separate_uses(captured)
    _redirect_in_place(captured)


def _ask_for_size(node: fx.Node) -> None:
    """`x.shape` is `x.size()`: one way to ask, and no getattr whose name would have to be checked."""
    if node.op == "call_function" and node.target is getattr and node.args[1:] == ("shape",):
        node.op, node.target, node.args = "call_method", "size", node.args[:1]


def _place_input_first(node: fx.Node) -> None:
    """`layer(input=x)` is `layer(x)`."""
    if node.op == "call_module" and not node.args and len(node.kwargs) == 1:
        node.args, node.kwargs = (next(iter(node.kwargs.values())),), {}


def _reshape_in_any_layout(node: fx.Node) -> None:
    """`view` needs one memory layout; `reshape` gives the same answer in all, and copies only where it has to."""
    to_dtype = any(isinstance(a, torch.dtype) for a in (*node.args, *node.kwargs.values()))
    if node.op == "call_method" and node.target == "view" and not to_dtype:
        node.target = "reshape"


def _separate_uses(captured: fx.GraphModule) -> None:
    """A layer called twice becomes two layers of the same tensors: what follows each call may differ."""
    seen: set[str] = set()
    for node in call_nodes(captured):
        if node.op == "call_module":
            if str(node.target) in seen:
                own_layer(captured, node, node.meta["layer"])
            seen.add(str(node.target))


def _redirect_in_place(captured: fx.GraphModule) -> None:
    """`relu_(x)` changes x for everyone who reads it later: compute it apart, and let them read the result."""
    position = {node: i for i, node in enumerate(captured.graph.nodes)}
    for node in call_nodes(captured):
        if not (node.args and isinstance(node.args[0], fx.Node) and _make_out_of_place(captured, node)):
            continue
        source = node.args[0]
        aliases = _other_names(source, node, position)
        if any(position[user] > position[node] for other in aliases for user in other.users):
            raise CaptureError(
                "an in-place operation changes a tensor that is read later through a view",
                place=node.meta["layer"],
                remedy="Use the operation's form that returns a new tensor.",
            )
        for user in list(source.users):
            if position[user] > position[node]:
                user.replace_input_with(source, node)


def _make_out_of_place(captured: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node worked in place; it no longer does."""
    layer = layer_of(captured, node)
    if layer is not None:
        if not getattr(layer, "inplace", False):
            return False
        own_layer(captured, node, str(node.target)).inplace = False  # type: ignore[assignment]
        return True
    if node.op == "call_function" and node.target in _OUT_OF_PLACE:
        number = holds_numbers(node)  # whose old value stays what it was under its other names
        node.target = _OUT_OF_PLACE[node.target]
        return not number
    if node.op == "call_method" and str(node.target).endswith("_") and not str(node.target).endswith("__"):
        node.target = str(node.target).removesuffix("_")
        return True
    return _drop_flag(node)


def _drop_flag(node: fx.Node) -> bool:
    """F.relu(x, inplace=True), or with the flag in its place among the arguments."""
    if node.kwargs.get("inplace", False):
        node.kwargs = {k: v for k, v in node.kwargs.items() if k != "inplace"}
        return True
    if node.target in (F.relu, F.relu6, F.hardswish, F.hardsigmoid, F.silu) and node.args[1:] == (True,):
        node.args = node.args[:1]
        return True
    return False


def _other_names(source: fx.Node, node: fx.Node, position: dict[fx.Node, int]) -> Iterator[fx.Node]:
    """Nodes before `node`, other than `source`, whose values may lie in the same memory."""
    seen, queue = {source}, [source]
    while queue:
        current = queue.pop()
        bases = [n for n in current.all_input_nodes if _is_view(current)]
        views = [n for n in current.users if _is_view(n) and position[n] < position[node]]
        for other in (*bases, *views):
            if other not in seen:
                seen.add(other)
                queue.append(other)
                yield other


def _is_view(node: fx.Node) -> bool:
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name in _VIEWS and not holds_numbers(node)
