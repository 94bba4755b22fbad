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
class Padded:
    """An image with what stands for zero around it, which a convolution finds in the border of the image itself.

    Args:
        view: the image.
        around: pixels above, below, left and right.
        value: what the bytes around it hold.
        laid: the image, and memory for it with what is around -> the step that fills it, for who reads anything else.
    """

    view: native.View
    around: tuple[int, int, int, int]
    value: int
    laid: Callable[[native.View, native.View], native.Step]


@dataclass(frozen=True)
class Flat:
    """An image seen as one row of numbers."""

    view: native.View


@dataclass(frozen=True)
class Pixels:
    """An image seen as (N, H, W, C), which is how it lies in memory."""

    view: native.View


@dataclass(frozen=True)
class Input:
    """What the program is called with; it lies nowhere until a step takes it."""


class Shape(tuple[int, ...]):
    """Of a tensor, and not sizes that a model asked for. unit: bytes of one of its numbers."""

    unit: int

    @classmethod
    def of(cls, x: Tensor) -> Shape:
        shape = cls(x.shape)
        shape.unit = x.element_size()
        return shape


class _Values(fx.Interpreter):
    """What every node gives: the shape of a tensor that it computes, or the value itself."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        y = super().run_node(n)
        self.found[n] = Shape.of(y) if isinstance(y, Tensor) and n.op != "get_attr" else y
        return y


@dataclass(frozen=True)
class Vocabulary:
    """What graphs are made of, and the steps for it.

    Args:
        layers: of a stage, by their very type: one that does more than its parent is not listed.
        moves: what works on integers and float32 alike, by the name of its row in the op table.
        floats: what computes in float32, likewise.
    """

    layers: Mapping[type, Callable[[Walk, Any, fx.Node], Any]]
    moves: Mapping[str, Callable[[Walk, Call, fx.Node], Any]]
    floats: Mapping[str, Callable[[Walk, Call, fx.Node], Any]]

    def op(self, name: str, unit: int) -> Callable[[Walk, Call, fx.Node], Any] | None:
        return self.moves.get(name) or (self.floats.get(name) if unit == FLOAT else None)


class Walk:
    """Goes through a graph for inputs of one shape.

    values: what each node gives: a view, something that stands for one, or a tensor of the model's own.
    shapes: of what each node gives; or the value itself, where that is no tensor that it computes.
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
            self.values[node] = Input() if node.op == "placeholder" else self._value(node)
        raise NotNativeError("a graph without an output")

    def _result(self, node: Any) -> Tensor:
        """A tensor in which the last step leaves its result."""
        value = self.values.get(node) if isinstance(node, fx.Node) else None
        if not isinstance(value, (native.View, Concatenated, Padded, Pixels)) or self.shapes[node].unit != FLOAT:
            raise NotNativeError("an output that is not one tensor of float32")
        view, _ = self.seen(node)
        if any(view.buffer.border) or not view.whole or view.buffer.pixel != view.channels:
            again = native.image(view.shape, unit=FLOAT)
            self.add(copied(view, again))
            view = again
        y = torch.empty(self.shapes[node])
        images = y.ndim == 4 and not isinstance(value, Pixels)
        view.buffer.fix(y := y.contiguous(memory_format=torch.channels_last) if images else y)
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
        unit = found.unit if isinstance(found, Shape) else found[0].element_size()  # parts of one tensor
        arrange = self.vocabulary.op(op.name, unit) if op is not None else None
        if op is None or arrange is None:
            name = getattr(node.target, "__name__", node.target) if layer is None else type(layer).__name__
            raise NotNativeError(str(name))
        return arrange(self, describe_call(self.model, node, op), node)

    def add(self, step: native.Step) -> None:
        step.layer = self._layer
        self._steps.append(step)

    def view(self, node: Any) -> native.View:
        """What a node gives, lying in memory as an image."""
        value = self.values.get(node)
        if isinstance(value, Input):
            # Three channels have a fourth beside them, which no weight reads.
            value = native.image(self.shapes[node], pixel=4 if self.shapes[node][1] == 3 else None, unit=FLOAT)
            self.add(native.float_input(value))
        if isinstance(value, Concatenated):
            value = self.laid_out(value, self.shapes[node])
        if isinstance(value, Padded):
            padded, value = value, self.memory(node)
            self.add(padded.laid(padded.view, value))
        if not isinstance(value, native.View):
            raise NotNativeError(f"{node} as an input")
        self.values[node] = value
        return value

    def readers(self, node: fx.Node) -> int:
        """How many nodes read its numbers, and not its size alone."""
        found = [self.shapes[user] for user in node.users]
        return sum(isinstance(value, Shape) or _has_tensors(value) for value in found)

    def seen(self, node: Any) -> tuple[native.View, Callable[[native.View], Any]]:
        """The same however it is seen, and what makes another view be seen alike."""
        value = self.values.get(node)
        if isinstance(value, (Flat, Pixels)):
            return value.view, type(value)
        return self.view(node), lambda view: view

    def laid_out(self, value: Concatenated, shape: Shape) -> native.View:
        whole, at = native.image(shape, unit=shape.unit), 0
        for view, table in value.parts:
            self.add(copied(view, whole.part(at, view.channels), table))
            at += view.channels
        return whole

    def memory(self, node: fx.Node) -> native.View:
        """For what a node gives."""
        shape = self.shapes[node]
        if len(shape) not in (2, 4):
            raise NotNativeError("anything but images and rows of numbers")
        return native.image(shape, unit=shape.unit)

    def with_border(self, node: Any, padding: tuple[int, int], value: int) -> tuple[native.View, tuple[int, int]]:
        """What a padded convolution reads, or a copy of it, and how many rows above and columns left it begins.

        value: of the bytes beyond the edges.
        """
        found, around = self.values.get(node), (0, 0, 0, 0)
        if isinstance(found, Padded) and found.value == value:
            x, around = found.view, found.around
        else:
            x = self.view(node)
        above, below, left, right = (a + p for a, p in zip(around, (padding[0],) * 2 + (padding[1],) * 2, strict=True))
        border = max(above, below), max(left, right)
        if not x.buffer.widen(*border, value):
            again = native.image(x.shape, unit=x.buffer.unit)
            self.add(copied(x, again))
            again.buffer.widen(*border, value)
            x = again
        return x, (above, left)


def _has_tensors(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and isinstance(value[0], Tensor)


def copied(x: native.View, y: native.View, table: Tensor | None = None) -> native.Step:
    """x as it is or, of integers, by a table."""
    return native.copy(x, y, table) if x.buffer.unit == 1 else native.float_copy(x, y, native.Ending())
