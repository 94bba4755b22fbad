"""Convolutions and linear layers with int8 weights, as float layers that a runtime turns back into int8 kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.affine import WEIGHT_MAX, QParams
from pytest_ptq.engine.blocks import channels_of
from pytest_ptq.engine.export.functions import convolution, dequantize, gemm, round_trip
from pytest_ptq.engine.export.inner import before_activation, before_addition, inner_qparams
from pytest_ptq.engine.export.placement import Placement
from pytest_ptq.engine.modules import (
    QuantizedConv1d,
    QuantizedConv2d,
    QuantizedConv3d,
    QuantizedFlatNorm,
    QuantizedLinear,
    QuantizedWeighted,
)

LARGEST_BIAS = 2.0**30
"""A bias is stored in int32; half of what that holds leaves room for the sums that it is added to."""


class FloatWeighted(nn.Module):
    """Dequantize, multiply, add, activate, and round as the int8 layer does.

    Args:
        layer: the int8 layer.
        how: what the runtime asks for.
        seen: the range of the sums before a residual or an activation, where it was observed.
    """

    def __init__(self, layer: QuantizedWeighted, how: Placement, seen: tuple[float, float] | None = None) -> None:
        super().__init__()
        act = ACTIVATIONS[layer.activation]
        out, residual = layer.out, getattr(layer, "residual", None)
        # Saturation ends where the activation does, or the scale has been chosen so.
        saturates = act.saturates and out is not None and (out.zero_point == 0 or how.clips_integers)
        gain, shift = (act.gain, act.shift) if saturates else (1.0, 0.0)
        self.act = None if saturates or layer.activation == "none" else act.function
        self.out, self.how = out, how
        self.floor = out.zero_point if out is not None and layer.activation != "none" and saturates else 0
        self.ceilings = None if layer.ceilings is None else channels_of(layer.ceilings, layer.weight)
        self.inner: QParams | None = None
        more = self.act is not None or self.ceilings is not None or residual is not None
        if more and out is not None and how.rounds_convolutions and not isinstance(layer, QuantizedLinear):
            self.inner = _inner(layer, self.act is not None, out, residual, seen)
        self._store(layer, gain, shift)

    def _store(self, layer: QuantizedWeighted, gain: float, shift: float) -> None:
        scales = layer.scales.double() * gain
        bias = None if layer.bias is None else layer.bias.double() * gain + shift
        if bias is None and shift:
            bias = torch.full_like(scales, shift)
        weight, scales = with_room_for_bias(layer.weight, scales, bias, layer.x.scale)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales.float())
        self.register_buffer("bias", None)
        if bias is not None:
            steps = self.scales.double() * layer.x.scale
            self.register_buffer("bias_scales", steps.float())
            self.bias = torch.round(bias / self.bias_scales.double()).to(torch.int32)

    def float_bias(self) -> Tensor | None:
        return None if self.bias is None else dequantize(self.bias, self.bias_scales)

    def sums(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self.sums(x)
        if self.inner is not None:
            y = round_trip(y, self.inner)
        if residual is not None:
            y = y + residual
        if self.act is not None:
            y = self.act(y)
        if self.ceilings is not None:
            y = torch.minimum(y, self.ceilings)
        return y if self.out is None else rounded(y, self.out, self.how, self.floor)


def _inner(
    layer: QuantizedWeighted,
    activates: bool,
    out: QParams,
    residual: QParams | None,
    seen: tuple[float, float] | None,
) -> QParams:
    if residual is not None:
        return inner_qparams(before_addition(out, residual), seen)
    if activates:
        return inner_qparams(before_activation(ACTIVATIONS[layer.activation].function, out), seen)
    return out


def rounded(x: Tensor, q: QParams, how: Placement, low: int = 0) -> Tensor:
    """x by `q` and back. low: the smallest integer that is kept."""
    if how.clips_integers or (q.quant_max == 255 and low == 0):
        return round_trip(x, q, low, q.quant_max)
    top = (q.quant_max - q.zero_point) * q.scale
    return round_trip(x.clamp(max=top), q)


def with_room_for_bias(weight: Tensor, scales: Tensor, bias: Tensor | None, x_scale: float) -> tuple[Tensor, Tensor]:
    """int8 weight and float64 scales of which every channel's bias fits into int32.

    A channel whose weights are next to nothing beside its bias takes a larger step. What its weights lose is less than
    2^-22 of the bias.
    """
    if bias is None:
        return weight, scales
    needed = bias.abs() / (x_scale * LARGEST_BIAS)
    factor = (needed / scales).clamp_min(1.0)
    if not bool((factor > 1).any()):
        return weight, scales
    coarser = torch.round(weight.double() / factor.view(-1, *[1] * (weight.ndim - 1)))
    return coarser.clamp(-WEIGHT_MAX, WEIGHT_MAX).to(torch.int8), scales * factor


class FloatConv(FloatWeighted):
    """Of one, two or three dimensions, with padding that may differ between the sides."""

    def __init__(
        self,
        layer: QuantizedConv2d | QuantizedConv3d,
        how: Placement,
        seen: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(layer, how, seen)
        first = 1 if isinstance(layer, QuantizedConv1d) else 0
        if first:
            self.weight = self.weight.squeeze(2)
            self.ceilings = None if self.ceilings is None else self.ceilings.squeeze(-1)
        padding = tuple(layer.padding[first:])
        self.stride, self.dilation = tuple(layer.stride[first:]), tuple(layer.dilation[first:])
        self.pads, self.groups = [*padding, *padding], layer.groups

    def sums(self, x: Tensor) -> Tensor:
        weight = dequantize(self.weight, self.scales)
        return convolution(x, weight, self.float_bias(), self.stride, self.pads, self.dilation, self.groups)


class FloatFlatNorm(FloatConv):
    """A batch norm over vectors, sequences or volumes, over images one pixel wide."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return super().forward(x.reshape(*x.shape[:2], -1, 1), residual).reshape(x.shape)


class FloatLinear(FloatWeighted):
    def sums(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return gemm(x, dequantize(self.weight, self.scales), self.float_bias())
        if self.how.flattens_linear:
            y = gemm(x.reshape(-1, x.shape[-1]), dequantize(self.weight, self.scales), self.float_bias())
            return y.reshape(*x.shape[:-1], y.shape[-1])
        y = torch.matmul(x, dequantize(self.weight.t().contiguous(), self.scales, 1))
        bias = self.float_bias()
        return y if bias is None else y + bias


WEIGHTED: dict[type[nn.Module], Any] = {
    QuantizedConv1d: FloatConv,
    QuantizedConv2d: FloatConv,
    QuantizedConv3d: FloatConv,
    QuantizedFlatNorm: FloatFlatNorm,
    QuantizedLinear: FloatLinear,
}
