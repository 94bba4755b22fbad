"""Runs a float stage batch by batch: channels last, weights of convolutions packed once, and a place for errors.

The stage itself stays as it is. What a packed convolution gives differs from the plain one's by float rounding alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from pytest_ptq.engine.blocks import Conv1dBlock, ConvBlock, FlatNormBlock
from pytest_ptq.engine.freeze import FrozenConv1d, FrozenConv2d
from pytest_ptq.errors import DataError, PTQError


class StageRunner(fx.Interpreter):
    """Runs a graph node by node, so that a failure can name the layer. Weights are packed at the first batch."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.current: fx.Node | None = None
        self._packed: dict[str, _Packed] = {}
        for node in module.graph.nodes:
            if node.op == "call_module":
                layer = module.get_submodule(str(node.target))
                if isinstance(layer, ConvBlock) and not isinstance(layer, FlatNormBlock):
                    self._packed.setdefault(str(node.target), _Packed(layer))

    def run_node(self, n: fx.Node) -> Any:
        self.current = n
        return super().run_node(n)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        x = super().placeholder(target, args, kwargs)
        return x.contiguous(memory_format=torch.channels_last) if isinstance(x, Tensor) and x.ndim == 4 else x

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        packed = self._packed.get(target)
        if packed is None or kwargs or not packed.takes(args[0]):
            return super().call_module(target, args, kwargs)
        return packed.layer(*args)


class _Packed:
    """A convolution's packed twin. The kernel checks nothing: what it is given has to be looked at before."""

    def __init__(self, block: ConvBlock) -> None:
        self._flat = isinstance(block, Conv1dBlock)
        self._channels, self._dtype = block.weight.shape[1] * block.groups, block.weight.dtype
        self.layer: nn.Module = FrozenConv1d(block) if self._flat else FrozenConv2d(block)

    def takes(self, x: Any) -> bool:
        return (
            isinstance(x, Tensor)
            and x.dtype is self._dtype is torch.float32
            and x.ndim == (3 if self._flat else 4)
            and x.shape[1] == self._channels
        )


def run_stage(runner: StageRunner, x: Tensor, place: str) -> Any:
    """Run a stage on one batch. Raises DataError naming batch and layer when the batch does not fit."""
    try:
        return runner.run(x)
    except PTQError:
        raise
    except Exception as error:
        node = runner.current
        layer = node.meta.get("layer", node.name) if node is not None else "?"
        raise DataError(
            f"input of shape {tuple(x.shape)} and type {x.dtype} does not fit: {_first_line(error)}",
            place=f"{place}, layer {layer}",
            remedy="Give batches shaped as the model was trained on.",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
