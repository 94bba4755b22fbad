"""Captured graph -> fused graph: a convolution or linear layer becomes a block with all that runs in its kernel."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.blocks import (
    Block,
    Conv1dBlock,
    Conv3dBlock,
    ConvBlock,
    LinearBlock,
    NormBlock,
    conv_block,
    fold_batch_norm,
    has_symmetric_padding,
    norm_block,
)
from pytest_ptq.engine.capture import CapturedModule, capture
from pytest_ptq.engine.graph import (
    StageModule,
    call_nodes,
    finish,
    insert_after,
    layer_of,
    open_copy,
    remove_identity,
    replace_chain,
    unique_path,
)
from pytest_ptq.engine.ops import describe_call, find_op, is_identity
from pytest_ptq.engine.transposed import as_convolution, can_be_convolution
from pytest_ptq.engine.verify import verify_fused

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class FusedModule(StageModule):
    stage = "fused"


def fuse(model: nn.Module) -> FusedModule:
    """Fold batch norms, drop what does nothing in eval mode, and merge activations and residual additions.

    conv+bn, conv+bn+relu, conv+relu6, conv+hardswish, conv+hardsigmoid, conv+add, conv+add+relu, linear+relu, ...

    Args:
        model: any nn.Module in eval mode (it is captured first), or an already captured one.

    Raises:
        CaptureError, WeightsError: as `capture` does.
    """
    captured = model if isinstance(model, CapturedModule) else capture(model)
    fused = open_copy(captured, FusedModule)
    if captured is not model:
        _give_up(captured)
    for node in call_nodes(fused):
        if is_identity(fused, node):
            remove_identity(fused, node)
    for node in call_nodes(fused):
        layer = layer_of(fused, node)
        if isinstance(layer, CONVOLUTIONS) and layer.padding_mode == "zeros" and has_symmetric_padding(layer):
            _grow_block(fused, node, conv_block(layer))
        elif can_be_convolution(layer) and len(node.args) == 1 and not node.kwargs:
            _open_transposed(fused, node)
        elif type(layer) is nn.Linear:
            _grow_block(fused, node, LinearBlock(layer.weight, layer.bias))
    for node in call_nodes(fused):
        norm = layer_of(fused, node)
        if isinstance(norm, NORMS) and norm.running_mean is not None:
            _grow_block(fused, node, norm_block(norm))  # what no convolution took in
    finish(fused)
    for node in call_nodes(fused):
        block = layer_of(fused, node)
        if isinstance(block, ConvBlock) and not isinstance(block, NormBlock):
            _take_in_residual(fused, node, block)
    finish(fused)
    verify_fused(fused)
    return fused


def _give_up(captured: CapturedModule) -> None:
    """Leave the tensors of layers to their copies: graphs refer to themselves, and would keep them until collected."""
    for node in call_nodes(captured):
        layer = layer_of(captured, node)
        if layer is not None:
            layer._parameters.clear()
            layer._buffers.clear()


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _open_transposed(module: FusedModule, node: fx.Node) -> None:
    """A transposed convolution becomes a convolution and a layer that lays its outputs side by side."""
    layer: Any = layer_of(module, node)
    block, interleave, channels = as_convolution(layer)
    new = _grow_block(module, node, block, channels)
    path = unique_path(module, f"{new.meta['layer']}#interleave")
    insert_after(module, new, path, interleave).meta = {**new.meta, "layer": path}


def _grow_block(module: FusedModule, node: fx.Node, block: Block, features: Tensor | None = None) -> fx.Node:
    """Take the batch norm and the activation behind a convolution or linear layer into its block.

    features: for each channel of the block, the layer's own channel, where they are not the same.
    """
    chain = [node]
    follower = _only_user(node)
    norm = layer_of(module, follower) if follower is not None else None
    kinds = ((Conv3dBlock, nn.BatchNorm3d), (ConvBlock, nn.BatchNorm2d), (LinearBlock, nn.BatchNorm1d))
    kind = nn.BatchNorm1d if isinstance(block, Conv1dBlock) else next(n for b, n in kinds if isinstance(block, b))
    channels = len(block.weight) if features is None else int(features.max()) + 1
    foldable = not isinstance(block, NormBlock) and channels == getattr(norm, "num_features", None)
    if foldable and type(norm) is kind and norm.running_mean is not None:
        fold_batch_norm(block, norm, features)
        if isinstance(block, LinearBlock):
            block.flat = True
        assert follower is not None
        chain.append(follower)
    _take_in_activation(module, chain, block)
    return replace_chain(module, chain, node.meta["layer"], block, node.args)


def _take_in_activation(module: FusedModule, chain: list[fx.Node], block: Block) -> None:
    follower = _only_user(chain[-1])
    op = find_op(module, follower) if follower is not None else None
    if follower is None or op is None or len(follower.all_input_nodes) != 1:
        return
    name = op.fuses_as(describe_call(module, follower, op))
    if name is None:
        return
    activation = ACTIVATIONS[name]
    if block.adds and not activation.after_add:
        return
    block.activation = activation.name
    chain.append(follower)


def _take_in_residual(module: FusedModule, node: fx.Node, block: ConvBlock) -> None:
    """conv + x, and conv + x followed by ReLU, when nobody else reads the convolution."""
    add = _only_user(node)
    if add is None or block.activation != "none" or not _is_plain_add(module, add):
        return
    first, second = add.all_input_nodes
    other = second if first is node else first  # not computed from the convolution, which nobody else reads
    block.adds = True
    chain = [node, add]
    _take_in_activation(module, chain, block)
    replace_chain(module, chain, node.meta["layer"], block, (node.args[0], other))


def _is_plain_add(module: FusedModule, node: fx.Node) -> bool:
    """An addition of two different tensors of the graph, without a factor."""
    op = find_op(module, node)
    return (
        op is not None
        and op.name == "add"
        and len(node.all_input_nodes) == 2
        and len(node.args) == 2
        and not node.kwargs
    )
