"""Calls of F.linear and of convolutions with weights of the model -> layers of torch.nn, which later stages know.

A subclass of a layer with a forward of its own, or a module that holds a bare parameter, arrives in this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pytest_ptq.engine.graph import call_nodes, replace_chain, unique_path

_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_LAYERS: Mapping[Any, type[nn.Module]] = {F.conv1d: nn.Conv1d, F.conv2d: nn.Conv2d, F.conv3d: nn.Conv3d}
_TRANSPOSED_LAYERS: Mapping[Any, type[nn.Module]] = {
    F.conv_transpose1d: nn.ConvTranspose1d, F.conv_transpose2d: nn.ConvTranspose2d,
    F.conv_transpose3d: nn.ConvTranspose3d,
}  # fmt: skip
_PARAMETERS: Mapping[Any, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"), **dict.fromkeys(_LAYERS, _CONVOLUTION),
    **dict.fromkeys(_TRANSPOSED_LAYERS, _TRANSPOSED),
}  # fmt: skip


def layers_for_functions(captured: fx.GraphModule) -> None:
    """Replace every such call whose weight and bias are the model's own and whose other arguments are constants."""
    for node in call_nodes(captured):
        if node.op == "call_function" and node.target in _PARAMETERS:
            _replace(captured, node)


def _replace(captured: fx.GraphModule, node: fx.Node) -> None:
    given: dict[str, Any] = {**dict(zip(_PARAMETERS[node.target], node.args, strict=False)), **node.kwargs}
    image, weight, bias = given.pop("input", None), given.pop("weight", None), given.pop("bias", None)
    stored, shift = _constant(captured, weight), _constant(captured, bias)
    computed: list[fx.Node] = []
    fx.map_arg(given, computed.append)
    if not isinstance(image, fx.Node) or stored is None or (bias is not None and shift is None) or computed:
        return
    path = unique_path(captured, node.meta["layer"])
    replace_chain(captured, [node], path, _layer(node.target, stored, shift, given), (image,))
    for read in {weight, bias} - {None}:
        if not read.users:
            captured.graph.erase_node(read)


def _constant(captured: fx.GraphModule, value: Any) -> Tensor | None:
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    owner, _, name = str(value.target).rpartition(".")
    found = getattr(captured.get_submodule(owner), name)
    return found.detach() if isinstance(found, Tensor) else None


def _layer(function: Any, weight: Tensor, bias: Tensor | None, given: dict[str, Any]) -> nn.Module:
    has_bias = bias is not None
    with torch.device("meta"):
        if function is F.linear:
            layer: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], has_bias)
        else:
            transposed = function in _TRANSPOSED_LAYERS
            kind: Any = (_TRANSPOSED_LAYERS if transposed else _LAYERS)[function]
            channels = (weight.shape[1] * given.get("groups", 1), weight.shape[0])
            layer = kind(*(reversed(channels) if transposed else channels), weight.shape[2:], bias=has_bias, **given)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer.eval()
