"""From a converted graph to the steps of a program: what lies where, and what is done to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from pytest_ptq.engine.graph import StageModule, layer_of
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.op import Call
from pytest_ptq.engine.ops import describe_call, find_op

FLOAT = 4
"""Bytes of a float32."""


class NotNativeError(Exception):
    """What the compiled kernels cannot do, in words."""


@dataclass(frozen=True)
class Concatenated:
    """Parts that are to lie beside each other, each by its table; copied when somebody wants them so."""

    parts: tuple[tuple[native.View, Tensor | None], ...]


@dataclass(frozen=True)
class Halves:
    """Channels seen as two halves: (N, 2, C / 2, H, W) or, swapped, (N, C / 2, 2, H, W)."""

    value: native.View | Concatenated
    swapped: bool = False


@dataclass(frozen=True)
class Flat:
    """An image seen as one row of numbers."""

    view: native.View


class Shape(tuple[int, ...]):
    """Of a tensor, and not sizes that a model asked for."""


class _Values(fx.Interpreter):
    """What every node gives: the shape of a tensor, or the value itself."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        y = super().run_node(n)
        self.found[n] = Shape(y.shape) if isinstance(y, Tensor) else y
        return y


@dataclass(frozen=True)
class Vocabulary:
    """What a kind of graph is made of, and the steps for it.

    Args:
        unit: bytes of a number.
        layers: of the stage, by their very type: one that does more than its parent is not listed.
        ops: everything else, by the name of its row in the op table.
        copied: a view, where it goes, and a table for its values.
        in_turn: channels of two views, each with a table.
    """

    unit: int
    layers: Mapping[type, Callable[[Walk, Any, fx.Node], Any]]
    ops: Mapping[str, Callable[[Walk, Call, fx.Node], Any]]
    copied: Callable[[native.View, native.View, Tensor | None], native.Step]
    in_turn: Callable[[native.View, Tensor | None, native.View, Tensor | None, native.View], native.Step]


class Walk:
    """Goes through a graph for inputs of one shape.

    values: what each node gives: a view, something that stands for one, or a float32 tensor at its end.
    shapes: of what each node gives; or the value itself, where that is no tensor.
    """

    def __init__(self, model: StageModule, x: Tensor, vocabulary: Vocabulary) -> None:
        if x.ndim != 4 or x.dtype is not torch.float32:
            raise NotNativeError("an input that is no batch of images in float32")
        runner = _Values(model)
        try:
            with torch.no_grad():
                runner.run(x)
        except Exception as error:  # the model's own: whoever calls it hears of it
            raise NotNativeError(f"the model refuses an input of shape {tuple(x.shape)}") from error
        self.model, self.vocabulary = model, vocabulary
        self.shapes: dict[Any, Any] = dict(runner.found)
        self.values: dict[Any, Any] = {}
        self._steps: list[native.Step] = []
        self._layer = ""

    def steps(self) -> tuple[list[native.Step], Tensor]:
        """The steps, and where the last leaves its result. Raises NotNativeError."""
        for node in self.model.graph.nodes:
            if node.op == "output":
                return self._steps, self._result(node.args[0])
            self._layer = str(node.meta.get("layer", node.name))
            self.values[node] = None if node.op == "placeholder" else self._value(node)
        raise NotNativeError("a graph without an output")

    def _result(self, node: Any) -> Tensor:
        """A tensor in which the last step leaves its result."""
        value = self.values.get(node) if isinstance(node, fx.Node) else None
        if not isinstance(value, native.View) or value.buffer.unit != FLOAT or not value.whole:
            raise NotNativeError("an output that is not one tensor of float32")
        if any(value.buffer.border) or value.buffer.pixel != value.channels:
            raise NotNativeError("an output that is read again")
        y = torch.empty(self.shapes[node])
        value.buffer.fix(y := y.contiguous(memory_format=torch.channels_last) if y.ndim == 4 else y)
        return y

    def _value(self, node: fx.Node) -> Any:
        found = self.shapes[node]
        if not isinstance(found, Shape) and not _has_tensors(found):
            return found  # numbers: sizes, and what is reckoned with them
        layer = layer_of(self.model, node)
        emit = self.vocabulary.layers.get(type(layer))
        if emit is not None:
            return emit(self, layer, node)
        op = find_op(self.model, node)
        arrange = self.vocabulary.ops.get(op.name) if op is not None else None
        if op is None or arrange is None:
            name = getattr(node.target, "__name__", node.target) if layer is None else type(layer).__name__
            raise NotNativeError(str(name))
        return arrange(self, describe_call(self.model, node, op), node)

    def add(self, step: native.Step) -> None:
        step.layer = self._layer
        self._steps.append(step)

    @property
    def begun(self) -> bool:
        return bool(self._steps)

    def view(self, node: Any) -> native.View:
        """What a node gives, lying in memory."""
        value = self.values.get(node)
        if isinstance(value, Concatenated):
            value = self.values[node] = self.laid_out(value, self.shapes[node])
        if not isinstance(value, native.View):
            raise NotNativeError(f"{node} as an input")
        return value

    def laid_out(self, value: Concatenated, shape: Shape) -> native.View:
        whole, at = native.image(shape, unit=self.vocabulary.unit), 0
        for view, table in value.parts:
            self.add(self.vocabulary.copied(view, whole.part(at, view.channels), table))
            at += view.channels
        return whole

    def memory(self, node: fx.Node, unit: int | None = None) -> native.View:
        """For what a node gives."""
        return native.image(self.shapes[node], unit=self.vocabulary.unit if unit is None else unit)

    def with_border(self, x: native.View, padding: tuple[int, int], value: int) -> native.View:
        """The view, or a copy of it, with what stands for zero around it."""
        if x.buffer.widen(*padding, value):
            return x
        again = native.image(x.shape, unit=self.vocabulary.unit)
        self.add(self.vocabulary.copied(x, again, None))
        again.buffer.widen(*padding, value)
        return again


def _has_tensors(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) for v in value)
