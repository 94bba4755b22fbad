"""nn.Module -> graph. The user's model is copied first and never modified."""

from __future__ import annotations

import copy
import operator
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from pytest_ptq.engine.graph import StageModule, finish
from pytest_ptq.engine.naming import name_nodes, rename_layers
from pytest_ptq.engine.normalize import normalize
from pytest_ptq.engine.opening import open_layers
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

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Parameters of `forward` that have a default keep it: an int8 model is called with what has none."""
        function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        for i, argument in enumerate(args):
            if isinstance(argument, fx.Proxy) and argument.node.args:
                args[i] = argument.node.args[0]
                self.graph.erase_node(argument.node)
        return function, args


def capture(model: nn.Module) -> CapturedModule:
    """Trace a model in eval mode symbolically (Reed et al., arXiv 2112.08429) into a graph of its layers.

    Raises:
        CaptureError: the model is in training mode, or its `forward` does what no graph can hold.
        WeightsError: a weight is NaN or Inf.
    """
    _refuse_training(model)
    _refuse_not_finite(model)
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        raise CaptureError(f"the model cannot be copied ({type(error).__name__}: {error})") from error
    _strip_hooks(copied)
    tracer = _Tracer()
    if tracer.is_leaf_module(copied, ""):  # one layer of torch's: called, and not looked into
        copied = nn.Sequential(copied)
    open_layers(copied)
    try:
        graph = tracer.trace(copied)
    except Exception as error:
        raise CaptureError(
            f"{_user_line(error)}: {type(error).__name__}: {_first_line(error)}",
            place=type(model).__name__,
            remedy="Control flow that depends on values or shapes cannot be captured: move it out of forward, or wrap "
            "the part in a function marked with torch.fx.wrap; it then stays fp32.",
        ) from error
    _refuse_open_signature(graph, type(model).__name__)
    rename_layers(copied, graph)
    captured = CapturedModule(copied, graph)
    name_nodes(captured)
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


def _refuse_open_signature(graph: fx.Graph, model: str) -> None:
    for node in graph.nodes:
        if node.op == "placeholder" and str(node.target).startswith("*"):
            raise CaptureError(
                f"forward takes {node.target}, and a graph has to know its inputs",
                place=model,
                remedy="Give forward a named parameter for each input, or wrap the model in one that does.",
            )


def _strip_hooks(copied: nn.Module) -> None:
    """Hooks stay with the user's model. Those that torch's weight norm computes a weight in have left it there."""
    strangers = []
    for name, module in copied.named_modules():
        for table in (module._forward_hooks, module._forward_pre_hooks):
            strangers += [name for hook in table.values() if not _hook_home(hook).startswith("torch.nn.utils.")]
            table.clear()
    if strangers:
        warnings.warn(
            f"{len(strangers)} forward hooks (the first: {strangers[0] or 'the model'}) are no part of the graph: what "
            "they change is not in the quantized model",
            stacklevel=4,
        )


def _hook_home(hook: Any) -> str:
    return str(getattr(hook, "__module__", None) or type(hook).__module__)


def _user_line(error: BaseException) -> str:
    """File and line of the innermost frame that belongs neither to torch nor to this package."""
    homes = {Path(torch.__file__).parent, Path(__file__).parent}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if homes.isdisjoint(Path(frame.filename).parents) and not frame.filename.startswith("<")
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else "the model's forward"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".")
