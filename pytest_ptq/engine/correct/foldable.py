"""Where a factor for each channel can move from one layer into the next without changing what the model computes.

A producer divides its channels by factors, and everything that reads it multiplies by them again. ReLU, max pooling and
averages commute with positive factors. ReLU6 does not, unless its ceiling moves along: min(max(x, 0), 6) / s is
min(max(x / s, 0), 6 / s), so that each channel gets a ceiling of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from pytest_ptq.engine.blocks import Block, ConvBlock, LinearBlock
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of
from pytest_ptq.engine.ops import find_op

COMMUTES = {"max_pool2d", "adaptive_avg_pool2d", "avg_pool2d", "mean", "relu"}
"""Operations on one channel at a time that a positive factor passes through."""
SCALABLE = {"none", "relu", "relu6"}


@dataclass(frozen=True)
class Fold:
    """One tensor whose channels can be scaled: paths of the layer that makes it and of all layers that read it."""

    tensor: str
    producer: str
    consumers: tuple[str, ...]


def folds(fused: FusedModule) -> Iterator[Fold]:
    """Every place where factors can move, in graph order."""
    seen = [str(n.target) for n in fused.graph.nodes if n.op == "call_module"]
    for node in fused.graph.nodes:
        producer = layer_of(fused, node)
        if producer is None or seen.count(str(node.target)) != 1 or not _can_be_scaled(producer):
            continue
        readers = list(_readers(fused, node))
        paths = tuple(str(n.target) for n in readers if n is not None)
        if readers and len(paths) == len(readers) and len(set(paths)) == len(paths):
            blocks = [fused.get_submodule(p) for p in paths]
            if all(_reads_channels(b, _channels(producer), isinstance(producer, ConvBlock)) for b in blocks):
                yield Fold(node.name, str(node.target), paths)


def _can_be_scaled(layer: nn.Module) -> bool:
    if isinstance(layer, Block):
        return type(layer) in (ConvBlock, LinearBlock) and layer.activation in SCALABLE and not layer.adds
    return type(layer) is nn.LayerNorm and layer.weight is not None and layer.weight.ndim == 1


def _channels(layer: nn.Module) -> int:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return len(weight)


def _readers(fused: FusedModule, node: fx.Node) -> Iterator[fx.Node | None]:
    """The blocks that read a node, also through what factors pass through; None for any other reader."""
    for user in node.users:
        layer, op = layer_of(fused, user), find_op(fused, user)
        if type(layer) in (ConvBlock, LinearBlock):
            # A residual is read beside the input, and is no weight's business.
            yield user if user.args[0] is node and node not in user.args[1:] else None
        elif op is not None and op.name in COMMUTES and user.all_input_nodes == [node]:
            yield from _readers(fused, user)
        else:
            yield None


def _reads_channels(layer: nn.Module, channels: int, image: bool) -> bool:
    """Whether the input channels of a block are the output channels of the producer, one by one."""
    if isinstance(layer, ConvBlock):
        return image and layer.weight.shape[1] * layer.groups == channels
    assert isinstance(layer, LinearBlock)
    return not image and layer.weight.shape[1] == channels


def input_extremes(block: Block) -> Tensor:
    """The largest magnitude among the weights that read each input channel: (channels,)."""
    if isinstance(block, ConvBlock):
        grouped = torch.unflatten(block.weight.detach().abs(), 0, (block.groups, -1))
        return torch.amax(grouped, (1, *range(3, grouped.ndim))).flatten()
    return block.weight.detach().abs().amax(0)


def divide_outputs(layer: nn.Module, factors: Tensor) -> None:
    """Divide the output channels of a layer by `factors`. Changes the layer, not its tensors."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    shaped = factors.view(-1, *[1] * (weight.ndim - 1))
    replaced = {"weight": (weight.double() / shaped).to(weight.dtype)}
    if isinstance(bias, Tensor):
        replaced["bias"] = (bias.double() / factors).to(bias.dtype)
    if isinstance(layer, Block) and (layer.activation == "relu6" or layer.ceilings is not None):
        known = layer.ceilings
        ceilings = torch.full_like(factors, 6.0) if known is None else known.double()
        layer.activation, layer.ceilings = "relu", (ceilings / factors).to(weight.dtype)
    _replace(layer, replaced)


def multiply_inputs(block: Block, factors: Tensor) -> None:
    """Multiply the weights that read each input channel by `factors`. Changes the layer, not its tensors."""
    weight = block.weight.double()
    if isinstance(block, ConvBlock):
        grouped = torch.unflatten(weight, 0, (block.groups, -1))
        shaped = factors.view(block.groups, 1, -1, *[1] * (weight.ndim - 2))
        weight = (grouped * shaped).flatten(0, 1)
    else:
        weight = weight * factors
    _replace(block, {"weight": weight.to(block.weight.dtype)})


def _replace(layer: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, value in tensors.items():
        if name in layer._parameters:
            layer._parameters[name] = nn.Parameter(value, requires_grad=False)
        else:
            layer._buffers[name] = value
