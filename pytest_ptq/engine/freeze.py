"""The fair fp32 model: what int8 latency is held against.

Batch norms folded, channels last, activations and residuals in the convolutions' own kernels, weights packed once,
and the same executor as the int8 model. Beating a straw man says nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from pytest_ptq.engine import kernels
from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.blocks import (
    Conv1dBlock,
    Conv3dBlock,
    ConvBlock,
    FlatNormBlock,
    conv_output_shape,
    describe_conv,
)
from pytest_ptq.engine.fuse import FusedModule, fuse
from pytest_ptq.engine.geometry import is_miscomputed, may_be_miscomputed
from pytest_ptq.engine.graph import (
    StageModule,
    call_nodes,
    finish,
    insert_after,
    layer_of,
    open_copy,
    put_layer,
    replace_chain,
)
from pytest_ptq.engine.transposed import Interleave, Transposed


class FrozenModule(StageModule):
    stage = "frozen"


class FrozenConv2d(nn.Module):
    """A ConvBlock with packed weights."""

    def __init__(self, block: ConvBlock) -> None:
        super().__init__()
        self.block = [block]  # in a list: it only describes, and is no child
        self.geometry: tuple[Any, ...] = (list(block.stride), list(block.padding), list(block.dilation), block.groups)
        self.packed = kernels.pack_float_conv2d(block.weight, *self.geometry)
        self.bias = block.bias
        self.where = (block.weight.shape, block.stride, block.padding, block.dilation, 0)
        self.doubtful = may_be_miscomputed(*self.where)
        fusable = block.activation in kernels.FLOAT_ACTIVATIONS and block.ceilings is None
        self.inside = block.activation if fusable else "none"
        outside = ACTIVATIONS["none" if fusable else block.activation].function
        self.outside = outside if block.ceilings is None else block.activate

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        b = self.block[0]
        if self.doubtful and is_miscomputed(x.shape[2:], *self.where):
            return ConvBlock.forward(b, x, residual)
        if residual is None:
            return self.outside(kernels.float_conv2d(x, self.packed(x), self.bias, self.geometry, self.inside))
        if residual.shape == conv_output_shape(x, b.weight, b.stride, b.padding, b.dilation):
            return kernels.float_conv2d_add(
                x, residual, self.packed(x), self.bias, self.geometry, self.inside == "relu"
            )
        # The kernel would read past the end of a residual that broadcasts.
        y = kernels.float_conv2d(x, self.packed(x), self.bias, self.geometry, "none") + residual
        return b.activate(y)

    def _get_name(self) -> str:
        return f"Frozen{self.block[0]._get_name()}"

    def extra_repr(self) -> str:
        b = self.block[0]
        return describe_conv(b.weight, b.stride, b.padding, b.dilation, b.groups)


class FrozenConv1d(FrozenConv2d):
    """A Conv1dBlock with packed weights."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is not None and residual.ndim:  # what broadcasts may have fewer dimensions
            residual = residual.unsqueeze(-2)
        return super().forward(x.unsqueeze(2), residual).squeeze(2)


class ToChannelsLast(nn.Module):
    """Images into the memory layout in which every convolution here works."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def freeze(model: nn.Module) -> FrozenModule:
    """The fastest fp32 form of a model that this executor can make."""
    fused = model if isinstance(model, FusedModule) else fuse(model)
    frozen = open_copy(fused, FrozenModule)
    for node in call_nodes(frozen):
        _restore_transposed(frozen, node)
    for node in call_nodes(frozen):
        block = layer_of(frozen, node)
        if isinstance(block, ConvBlock) and not isinstance(block, FlatNormBlock):
            kind = FrozenConv1d if isinstance(block, Conv1dBlock) else FrozenConv2d
            put_layer(frozen, str(node.target), kind(block))
    for node in [n for n in frozen.graph.nodes if n.op == "placeholder"]:
        _lay_out(frozen, node)
    finish(frozen)
    return frozen


def _restore_transposed(frozen: FrozenModule, node: fx.Node) -> None:
    """Shuffling pays in int8 only: in fp32 torch's own transposed convolution is faster."""
    interleave = layer_of(frozen, node)
    if isinstance(interleave, Interleave):
        source = node.all_input_nodes[0]
        block = layer_of(frozen, source)
        if isinstance(block, (ConvBlock, Conv3dBlock)) and block.ceilings is None and len(source.users) == 1:
            replace_chain(frozen, [source, node], str(source.target), Transposed(block, interleave), source.args)


def _lay_out(frozen: FrozenModule, node: fx.Node) -> None:
    if node.users:
        insert_after(frozen, node, f"{node.name}.channels_last", ToChannelsLast())
