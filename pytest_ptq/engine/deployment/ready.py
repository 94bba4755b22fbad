"""A copy of a model whose kernels a tracer can record, with weights packed for the size of an example."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pytest_ptq.engine import kernels
from pytest_ptq.engine.blocks import ConvBlock, conv_output_shape
from pytest_ptq.engine.freeze import FrozenConv2d
from pytest_ptq.engine.graph import StageModule
from pytest_ptq.engine.modules.volumes import QuantizedConv3d
from pytest_ptq.engine.modules.weighted import PLAIN, QuantizedConv2d, QuantizedLinear, QuantizedWeighted


def to_ready(model: StageModule, x: Tensor) -> nn.Module:
    """The copy. `x`: an example, run through it once so that every layer packs for what it reads."""
    twin = copy.deepcopy(model)
    twin(x)
    make_ready(twin)
    return twin


def make_ready(twin: nn.Module) -> None:
    """Give every layer of a model that has run a kernel that a tracer can record, packed for what the layer read."""
    script_calls(twin, ready=True)
    for layer in list(twin.modules()):
        if type(layer) is FrozenConv2d and not layer.doubtful:
            layer.scripted = _ready_float(layer, layer.inside)
            _mix(layer, _ReadyFloatCalls)


def script_calls(twin: nn.Module, ready: bool) -> None:
    """Let every int8 layer with weights call its kernel through TorchScript.

    ready: with the weight that the layer packed last; otherwise with one that packs itself, for a file.
    """
    for layer in list(twin.modules()):
        if isinstance(layer, QuantizedWeighted):
            layer.scripted = _kernel(layer, layer._out, ready)
            if layer.adds:  # of a residual that broadcasts
                layer.scripted_plain = _kernel(layer, PLAIN, ready)
            _mix(layer, _ScriptedCalls)


def _mix(layer: nn.Module, calls: type[nn.Module]) -> None:
    layer.__class__ = type(f"Scripted{type(layer).__name__}", (calls, type(layer)), {})


class _ScriptedCalls(nn.Module):
    """Mixed into an int8 layer: its kernel is called through TorchScript."""

    def _run(self, x: Tensor, out: tuple[Any, ...], residual: Tensor | None = None) -> Tensor:
        kernel: Any = self.scripted_plain if out is PLAIN and hasattr(self, "scripted_plain") else self.scripted
        y: Tensor = kernel(x) if isinstance(self, QuantizedLinear) else kernel(x, residual)
        return y


class _ReadyFloatCalls(nn.Module):
    """Mixed into a float convolution."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        layer: Any = self
        block: ConvBlock = layer.block[0]
        y: Tensor
        if residual is None:
            y = layer.outside(layer.scripted(x, None))
        elif residual.shape == conv_output_shape(x, block.weight, block.stride, block.padding, block.dilation):
            y = layer.scripted(x, residual)
        else:
            y = ConvBlock.forward(block, x, residual)  # a residual that broadcasts
        return y


def _kernel(layer: QuantizedWeighted, out: tuple[Any, ...], ready: bool) -> Any:
    x_scale, x_zero, scales, _ = layer._call
    shared = (layer.weight, scales, layer._bias, (x_scale, x_zero), out)
    kernel: Any
    if isinstance(layer, QuantizedLinear):
        kernel = (kernels.ReadyLinear if ready else kernels.ScriptedLinear)(*shared)
    else:
        assert isinstance(layer, (QuantizedConv2d, QuantizedConv3d))
        residual = getattr(layer, "residual", None)
        more = () if residual is None else ((residual.scale, residual.zero_point),)
        kernel = (kernels.ReadyConv if ready else kernels.ScriptedConv)(*shared, layer._geometry, *more)
    if ready:
        # A tensor of its own: a tracer takes a view of what it meets twice, which packed weights have none of.
        kernel.ready = (
            kernels.pack_linear(layer.weight) if isinstance(layer, QuantizedLinear) else layer._packed.again()
        )
    return torch.jit.script(kernel)


def _ready_float(layer: FrozenConv2d, activation: str) -> Any:
    kernel = kernels.ReadyFloatConv(layer.bias, layer.geometry, kernels.FLOAT_ACTIVATIONS[activation])
    kernel.ready = layer.packed.again()
    return torch.jit.script(kernel)
