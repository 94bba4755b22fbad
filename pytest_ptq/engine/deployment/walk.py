"""From a converted graph to the steps of a program: what lies where, and what is done to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.graph import layer_of
from pytest_ptq.engine.kernels import native


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


class Walk:
    """Goes through a graph for inputs of one shape.

    values: what each node gives: a view, something that stands for one, or a float32 tensor at its end.
    shapes: of what each node gives; or the value itself, where that is no tensor.
    """

    def __init__(self, model: QuantizedModule, x: Tensor) -> None:
        if x.ndim != 4 or x.dtype is not torch.float32:
            raise NotNativeError("an input that is no batch of images in float32")
        runner = _Values(model)
        with torch.no_grad():
            runner.run(x)
        self.model = model
        self.shapes: dict[Any, Any] = dict(runner.found)
        self.values: dict[Any, Any] = {}
        self._steps: list[native.Step] = []
        self._layer = ""

    def steps(self) -> tuple[list[native.Step], Tensor]:
        """The steps, and where the last leaves its result. Raises NotNativeError."""
        for node in self.model.graph.nodes:
            if node.op == "output":
                result = self.values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
                if not isinstance(result, Tensor):
                    raise NotNativeError("an output that is not one tensor of float32")
                return self._steps, result
            self._layer = str(node.meta.get("layer", node.name))
            self.values[node] = None if node.op == "placeholder" else self._value(node)
        raise NotNativeError("a graph without an output")

    def _value(self, node: fx.Node) -> Any:
        from pytest_ptq.engine.deployment.emit import LAYERS
        from pytest_ptq.engine.deployment.rearrange import FUNCTIONS

        found = self.shapes[node]
        if not isinstance(found, Shape) and not _has_tensors(found):
            return found  # numbers: sizes, and what is reckoned with them
        layer = layer_of(self.model, node)
        if layer is not None:
            emit = LAYERS.get(type(layer))
            if emit is None:
                raise NotNativeError(type(layer).__name__)
            return emit(self, layer, node)
        name = str(getattr(node.target, "__name__", node.target))
        rearrange = FUNCTIONS.get(name)
        if rearrange is None:
            raise NotNativeError(name)
        return rearrange(self, node)

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
        whole, at = native.image(shape), 0
        for view, table in value.parts:
            self.add(native.copy(view, whole.part(at, view.channels), table))
            at += view.channels
        return whole

    def integers(self, node: fx.Node) -> native.View:
        """Memory for what a node gives."""
        return native.image(self.shapes[node])

    def result(self, node: fx.Node, out: QParams | None) -> tuple[native.View | None, Tensor | None]:
        """Memory for integers or, without a scale, for real numbers."""
        if out is not None:
            return self.integers(node), None
        if len(self.shapes[node]) != 2:
            raise NotNativeError("an image in float32")
        return None, torch.zeros(self.shapes[node])


def _has_tensors(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) for v in value)
