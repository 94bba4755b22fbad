"""How long each layer of a graph takes, one by one, and which kernels it calls.

Timing layer by layer disturbs what it times: between two layers stand two readings of the clock and some Python, in
which caches and waiting threads cool. The time of the whole model, run as its user runs it, stands beside it.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import UsageError
from pytest_ptq.measure.conditions import pinned_threads, resting_gc

if TYPE_CHECKING:
    from torch import Tensor, fx

Clock = Callable[[], float]
WARMUP = 5
"""Passes before the first that counts."""
CALLS = ("call_module", "call_function", "call_method")


@dataclass(frozen=True)
class NodeTime:
    """One call in the graph.

    Args:
        name: of the node.
        ms: median over all passes.
        best_ms: the shortest.
        kernels: the operators that it called, without those that only look at memory in another way.
        shape: of what it returns; empty where that is no tensor.
    """

    name: str
    ms: float
    best_ms: float
    kernels: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GraphTimes:
    """Every call in the order of the graph; medians in ms of the whole model, and of a pass that times its layers."""

    nodes: tuple[NodeTime, ...]
    whole_ms: float
    walk_ms: float


def time_layers(
    model: fx.GraphModule, example: Tensor, *, threads: int, repeats: int, clock: Clock = time.perf_counter
) -> GraphTimes:
    """Time a graph as a whole and layer by layer, in turn.

    Args:
        model: the graph.
        example: its input.
        threads: threads to compute with.
        repeats: how often each is timed; a median is taken of them.
        clock: seconds.

    Raises UsageError for fewer than one thread or repeat.
    """
    import torch

    if threads < 1 or repeats < 1:
        raise UsageError(f"nothing can be timed with {threads} threads, {repeats} times", remedy="Give at least 1.")
    steps = _Steps(model)
    with torch.inference_mode(), pinned_threads(threads), resting_gc():
        kernels, shapes = _observe(steps, example)
        took: list[list[float]] = []
        whole, walks = [], []
        for round_ in range(WARMUP + repeats):
            start = clock()
            model(example)
            middle = clock()
            stopwatch = _Stopwatch(clock)
            steps.run(example, stopwatch.time)
            end = clock()
            if round_ >= WARMUP:
                took.append(stopwatch.spent)
                whole.append(middle - start)
                walks.append(end - middle)
    return GraphTimes(
        tuple(
            NodeTime(name, 1000 * median(column), 1000 * min(column), kernels[name], shapes[name])
            for name, column in zip(steps.names, zip(*took, strict=True), strict=True)
        ),
        1000 * median(whole),
        1000 * median(walks),
    )


def output_shapes(model: fx.GraphModule, example: Tensor) -> Mapping[str, tuple[int, ...]]:
    """What each call in a graph returns, by the node's name; empty where that is no tensor."""
    import torch

    with torch.inference_mode():
        return _observe(_Steps(model), example)[1]


class _Stopwatch:
    """Seconds of each call, in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.spent: list[float] = []

    def time(self, _: str, call: Callable[[], Any]) -> Any:
        start = self._clock()
        value = call()
        self.spent.append(self._clock() - start)
        return value


Watch = Callable[[str, Callable[[], Any]], Any]
"""watch(name of the node, its call) makes the call and returns its value."""


class _Steps:
    """A graph, one call after the other. Values are let go after their last use, as in the compiled graph."""

    def __init__(self, model: fx.GraphModule) -> None:
        self._nodes = list(model.graph.nodes)
        self._targets = {node: _target(model, node) for node in self._nodes}
        self._ends: dict[fx.Node, list[fx.Node]] = {}
        last = {read: node for node in self._nodes for read in node.all_input_nodes}
        for read, node in last.items():
            self._ends.setdefault(node, []).append(read)
        self.names = [node.name for node in self._nodes if node.op in CALLS]

    def run(self, example: Tensor, watch: Watch) -> None:
        """One pass over the graph. Further inputs have defaults, or there is no calling the model with one."""
        from torch import fx

        values: dict[fx.Node, Any] = {}
        given = [example]
        for node in self._nodes:
            target = self._targets[node]
            if node.op == "placeholder":
                values[node] = given.pop() if given else node.args[0]
            elif node.op == "get_attr":
                values[node] = target
            elif node.op in CALLS:
                args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
                values[node] = watch(node.name, partial(target, *args, **kwargs))
                del args, kwargs
            for read in self._ends.get(node, ()):
                del values[read]


def _target(model: fx.GraphModule, node: fx.Node) -> Any:
    """What a node calls, or reads."""
    if node.op == "call_module":
        return model.get_submodule(str(node.target))
    if node.op == "call_method":
        name = str(node.target)
        return lambda owner, *args, **kwargs: getattr(owner, name)(*args, **kwargs)
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(model)
    return node.target


def _observe(steps: _Steps, example: Tensor) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[int, ...]]]:
    """Kernels and output shape of each call, from a pass that is not timed."""
    import torch

    kernels: dict[str, tuple[str, ...]] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(name: str, call: Callable[[], Any]) -> Any:
        value, kernels[name] = called_kernels(call)
        shapes[name] = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
        return value

    steps.run(example, lambda _, call: call())  # what is made on the first call only is made now
    steps.run(example, watch)
    return kernels, shapes


def called_kernels(call: Callable[[], Any]) -> tuple[Any, tuple[str, ...]]:
    """What a call returns, and the names of the operators that it came down to, in order, each once.

    Left out is what only looks at memory in another way, and what only sets memory aside.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    names: dict[str, None] = {}

    class Listener(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            packet = str(func.overloadpacket)
            own = packet.startswith("aten.")  # whose overloads tell one type of number from another
            if not _is_view(func) and not packet.startswith("aten.empty"):
                names.setdefault(packet.removeprefix("aten.") if own else str(func).removesuffix(".default"))
            return func(*args, **(kwargs or {}))

    with Listener():  # type: ignore[no-untyped-call]
        value = call()
    return value, tuple(names)


def _is_view(func: Any) -> bool:
    aliases = [found.alias_info for found in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)
