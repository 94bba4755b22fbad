"""nn.Module -> graph. The user's model is copied first and never modified."""

from __future__ import annotations

import copy
import operator
import traceback
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from pytest_ptq.engine.graph import StageModule, finish, is_reserved
from pytest_ptq.engine.normalize import normalize
from pytest_ptq.engine.ops import find_op
from pytest_ptq.errors import CaptureError, WeightsError


class CapturedModule(StageModule):
    stage = "captured"


class _Proxy(fx.Proxy):
    """Records `x += y` as what it is: torch.fx makes `x = x + y` of it, which forgets that x had other names."""

    def _in_place(self, function: Callable[..., Any], other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.itruediv, other)


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


def capture(model: nn.Module) -> CapturedModule:
    """Trace a model in eval mode symbolically (Reed et al., arXiv 2112.08429) into a graph of its layers.

    Raises:
        CaptureError: the model is in training mode, or its `forward` does what no graph can hold.
        WeightsError: a weight is NaN or Inf.
    """
    _refuse_training(model)
    _refuse_not_finite(model)
    _refuse_reserved(model)
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        raise CaptureError(f"the model cannot be copied ({type(error).__name__}: {error})") from error
    tracer = _Tracer()
    if tracer.is_leaf_module(copied, ""):  # one layer of torch's: called, and not looked into
        copied = nn.Sequential(copied)
    try:
        graph = tracer.trace(copied)
    except Exception as error:
        raise CaptureError(
            f"{_user_line(error)}: {type(error).__name__}: {_first_line(error)}",
            place=type(model).__name__,
            remedy="Control flow that depends on values or shapes cannot be captured: move it out of forward, or wrap "
            "the part in a function marked with torch.fx.wrap; it then stays fp32.",
        ) from error
    captured = CapturedModule(copied, graph)
    _name_nodes(captured)
    normalize(captured)
    finish(captured)
    return captured


def _refuse_training(model: nn.Module) -> None:
    training = [name or type(model).__name__ for name, m in model.named_modules() if m.training]
    if training:
        raise CaptureError(
            f"the model is in training mode ({training[0]})",
            place=type(model).__name__,
            remedy="Call model.eval() first: batch norm and dropout mean something else in training.",
        )


def _refuse_not_finite(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError("the weight holds NaN or Inf", place=name, remedy="Load a checkpoint that is finite.")


def _refuse_reserved(model: nn.Module) -> None:
    for name, _ in model.named_children():
        if is_reserved(name):
            raise CaptureError(
                f"a layer is called {name!r}, a name that a graph needs for itself",
                place=type(model).__name__,
                remedy="Rename that attribute of the model.",
            )


def _user_line(error: BaseException) -> str:
    """File and line of the innermost frame that belongs neither to torch nor to this package."""
    torch_home = Path(torch.__file__).parent
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if torch_home not in Path(f.filename).parents and __file__ != f.filename
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else "the model's forward"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".")


def _name_nodes(captured: fx.GraphModule) -> None:
    """Give every node the path a person knows it by: its module's, or its enclosing module's plus the op's name."""
    for node in captured.graph.nodes:
        if node.op == "call_module":
            node.meta["layer"] = str(node.target)
        elif node.op in ("call_function", "call_method"):
            op = find_op(captured, node)
            stack: OrderedDict[str, tuple[str, object]] = node.meta.get("nn_module_stack") or OrderedDict()
            path = next(reversed(stack.values()))[0] if stack else ""
            name = op.name if op else str(getattr(node.target, "__name__", node.target))
            name = f"{name}#1" if is_reserved(name) else name  # x.float() must not hide the method of that name
            node.meta["layer"] = f"{path}.{name}" if path else name
        else:
            node.meta["layer"] = node.name
    seen: dict[str, int] = {}
    for node in captured.graph.nodes:
        layer = node.meta["layer"]
        seen[layer] = seen.get(layer, 0) + 1
        if seen[layer] > 1:
            node.meta["layer"] = f"{layer}#{seen[layer]}"
