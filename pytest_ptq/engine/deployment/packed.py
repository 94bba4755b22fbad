"""A copy of an int8 model in which convolutions work on torch's quantized tensors, where they can."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, fx, nn

from pytest_ptq.engine import kernels
from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.deployment.ready import make_ready
from pytest_ptq.engine.graph import call_nodes, finish, insert_between, layer_of, put_layer, unique_path
from pytest_ptq.engine.modules import Quantize, QuantizedConv2d, QuantizedMaxPool2d

POOLED_TOGETHER = 64
"""Channels that torch's pooling of quantized tensors takes at a time. With 24 at 112 x 112 it takes 517 us, with 64 52;
`kernels.max_pool` takes 97 and 117 us, and two copies."""


def to_packed(model: QuantizedModule, x: Tensor) -> nn.Module | None:
    """The copy, or None where a layer with weights has no such kernel.

    Tensors change their kind between the layers that have one and those that have not, which costs a copy.
    """
    twin = copy.deepcopy(model)
    shapes = _shapes(twin, x)
    chosen: dict[fx.Node, nn.Module] = {}
    for node in call_nodes(twin):
        layer = _packed(twin, node, shapes, chosen)
        if layer is not None:
            chosen[node] = layer
    convolutions = [n for n in call_nodes(twin) if isinstance(layer_of(twin, n), QuantizedConv2d)]
    if not convolutions or not all(node in chosen for node in convolutions):
        return None
    make_ready(twin)
    for node, layer in chosen.items():
        path = str(node.target)
        if sum(str(n.target) == path for n in convolutions) > 1:
            return None
        put_layer(twin, path, layer)
    _convert_between(twin, chosen, model)
    finish(twin)
    return twin


class _Shapes(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        y = super().run_node(n)
        self.found[n] = getattr(y, "shape", None)
        return y


def _shapes(module: fx.GraphModule, x: Tensor) -> dict[fx.Node, Any]:
    runner = _Shapes(module)
    runner.run(x)
    return runner.found


def _packed(
    module: fx.GraphModule, node: fx.Node, shapes: dict[fx.Node, Any], chosen: dict[fx.Node, nn.Module]
) -> nn.Module | None:
    """The layer that takes a node's place; None where it stays as it is."""
    layer = layer_of(module, node)
    if isinstance(layer, Quantize):
        wanted = any(isinstance(layer_of(module, user), QuantizedConv2d) for user in node.users)
        return kernels.PackedQuantize(layer.out, layer.shift) if wanted and len(shapes[node]) == 4 else None
    if type(layer) is QuantizedMaxPool2d and node.args[0] in chosen and shapes[node][1] % POOLED_TOGETHER == 0:
        return kernels.PackedMaxPool2d(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)
    if type(layer) is not QuantizedConv2d or layer.out is None or layer._doubtful:
        return None
    if layer._after is not None or layer._bounds is not None or layer._bound is not None:
        return None
    saturates = ACTIVATIONS[layer.activation].saturates and layer.out.zero_point == 0
    if not saturates and layer.activation not in ("none", "relu"):
        return None
    residual = node.args[1] if len(node.args) > 1 else None
    if isinstance(residual, fx.Node) and shapes[residual] != shapes[node]:
        return None
    relu = layer.activation == "relu" and not saturates
    return kernels.PackedConv(
        layer.weight, layer._call[2], layer._bias, layer._geometry, layer.out, relu, layer.overwrites
    )


def _convert_between(twin: fx.GraphModule, chosen: dict[fx.Node, nn.Module], model: QuantizedModule) -> None:
    """Copies where a tensor of the one kind is read by a layer of the other."""
    for node in list(twin.graph.nodes):
        packed = node in chosen
        others = [user for user in node.users if (user in chosen) != packed and not _from_float(user, chosen)]
        if not others:
            continue
        layer: nn.Module = kernels.ToPlain() if packed else kernels.FromPlain(_read_as(others[0], node, model))
        insert_between(twin, node, others, unique_path(twin, f"{node.meta['layer']}.form"), layer)


def _from_float(user: fx.Node, chosen: dict[fx.Node, nn.Module]) -> bool:
    """Whether a chosen layer reads float32."""
    return isinstance(chosen.get(user), kernels.PackedQuantize)


def _read_as(user: fx.Node, node: fx.Node, model: QuantizedModule) -> Any:
    layer = model.get_submodule(str(user.target))
    return layer.residual if len(user.args) > 1 and user.args[1] is node else layer.x
