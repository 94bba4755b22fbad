"""Convolutions and linear layers with int8 weights, as float layers that a runtime turns back into int8 kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.affine import WEIGHT_MAX, QParams, choose_qparams
from pytest_ptq.engine.blocks import channels_of
from pytest_ptq.engine.export.fine import UINT16, fine_round_trip
from pytest_ptq.engine.export.functions import convolution, dequantize, gemm, round_trip
from pytest_ptq.engine.export.inner import Range, before_activation, before_addition, inner_qparams, narrowed
from pytest_ptq.engine.export.placement import Placement
from pytest_ptq.engine.export.products import PRODUCTS
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

    weight: Tensor
    scales: Tensor
    bias: Tensor | None
    bias_scales: Tensor
    rounds_sums = True
    """Whether a runtime may have to round before what follows."""

    def __init__(self, layer: QuantizedWeighted, how: Placement, seen: Range | None = None) -> None:
        super().__init__()
        act = ACTIVATIONS[layer.activation]
        out, residual = layer.out, getattr(layer, "residual", None)
        # Saturation ends where the activation does, or the scale has been chosen so.
        saturates = act.saturates and out is not None and (out.zero_point == 0 or how.clips_integers)
        self.act: Callable[[Tensor], Tensor] | None = None if saturates else act.function
        self.out, self.how, self.low = out, how, 0
        if out is not None and saturates and layer.activation != "none":
            self.low = out.zero_point
        self.ceilings = None if layer.ceilings is None else channels_of(layer.ceilings, layer.weight)
        self.inner: QParams | None = None
        self.fine: QParams | None = None
        if how.fine_sums and out is not None and residual is not None:
            self.fine = choose_qparams(*before_addition(out, residual), bounds=UINT16)
        if self.rounds_sums and how.rounds_convolutions and out is not None:
            self._round_sums(layer.activation, out, residual, seen)
        self._store(layer, act.gain if saturates else 1.0, act.shift if saturates else 0.0)

    def _round_sums(self, activation: str, out: QParams, residual: QParams | None, seen: Range | None) -> None:
        """Choose how the sums are rounded before a residual, an activation or ceilings."""
        if residual is not None:
            self.inner = inner_qparams(narrowed(before_addition(out, residual), seen))
        elif self.act is not None:
            bounds = before_activation(self.act, out)
            product = PRODUCTS.get(activation)
            inner = self.inner = (product.inner(bounds) if product else None) or inner_qparams(bounds)
            if product is not None:
                compute = product.compute
                self.inner, self.act = None, lambda y: compute(y, inner)
        elif self.ceilings is not None:
            self.inner = out

    def _store(self, layer: QuantizedWeighted, gain: float, shift: float) -> None:
        scales = layer.scales.double() * gain
        bias = None if layer.bias is None else layer.bias.double() * gain + shift
        if bias is None and shift:
            bias = torch.full_like(scales, shift)
        weight, scales = with_room_for_bias(layer.weight, scales, bias, layer.x.scale)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales.float())
        steps = (self.scales.double() * layer.x.scale).float()
        self.register_buffer("bias_scales", steps)
        self.register_buffer("bias", None if bias is None else torch.round(bias / steps.double()).to(torch.int32))

    def float_weight(self) -> Tensor:
        return dequantize(self.weight, self.scales)

    def float_bias(self) -> Tensor | None:
        return None if self.bias is None else dequantize(self.bias, self.bias_scales)

    def sums(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self.sums(x)
        if self.inner is not None:
            y = round_trip(y, self.inner)
        if self.fine is not None:
            y = fine_round_trip(y, self.fine)
        if residual is not None:
            y = y + residual
        if self.act is not None:
            y = self.act(y)
        if self.ceilings is not None:
            y = torch.minimum(y, self.ceilings)
        return y if self.out is None else rounded(y, self.out, self.how, self.low)


def rounded(x: Tensor, q: QParams, how: Placement, low: int = 0) -> Tensor:
    """x by `q` and back. low: the smallest integer that is kept."""
    if how.clips_integers or (q.quant_max == 255 and low == 0):
        return round_trip(x, q, low, q.quant_max)
    top = (q.quant_max - q.zero_point) * q.scale
    return round_trip(x.clamp(max=top), q)


def with_room_for_bias(weight: Tensor, scales: Tensor, bias: Tensor | None, x_scale: float) -> tuple[Tensor, Tensor]:
    """int8 weight and float64 scales of which every channel's bias fits into int32.

    A channel whose weights are next to nothing beside its bias takes a larger step: what each weight then loses is at
    most 2^-23 of the bias for a whole range of its input.
    """
    if bias is None:
        return weight, scales
    factor = (bias.abs() / (x_scale * LARGEST_BIAS) / scales).clamp_min(1.0)
    if not bool((factor > 1).any()):
        return weight, scales
    coarser = torch.round(weight.double() / factor.view(-1, *[1] * (weight.ndim - 1)))
    return coarser.clamp(-WEIGHT_MAX, WEIGHT_MAX).to(torch.int8), scales * factor


class FloatConv(FloatWeighted):
    """Of one, two or three dimensions, with padding that may differ between the sides."""

    def __init__(
        self, layer: QuantizedConv2d | QuantizedConv3d, how: Placement, seen: tuple[float, float] | None = None
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
        return convolution(
            x, self.float_weight(), self.float_bias(), self.stride, self.pads, self.dilation, self.groups
        )


class FloatFlatNorm(FloatConv):
    """A batch norm over vectors, sequences or volumes, over images one pixel wide."""

    free: Sequence[int] | None = None
    """The dimensions whose size the example does not fix; None for all of them."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        flat = x.flatten(2).unsqueeze(-1) if x.ndim > 2 else x[:, :, None, None]
        return super().forward(flat, residual).reshape(_shape(x, self.free))


class FloatLinear(FloatWeighted):
    rounds_sums = False
    free: Sequence[int] | None = None
    """The dimensions whose size the example does not fix; None for all of them."""

    def sums(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return gemm(x, self.float_weight(), self.float_bias())
        if self.how.flattens_linear:
            y = gemm(x.reshape(-1, x.shape[-1]), self.float_weight(), self.float_bias())
            return y.reshape(*_shape(x, self.free)[:-1], len(self.weight))
        y = torch.matmul(x, dequantize(self.weight.t().contiguous(), self.scales, 1))
        bias = self.float_bias()
        return y if bias is None else y + bias


def _shape(x: Tensor, free: Sequence[int] | None) -> list[Any]:
    """The shape of a tensor for a reshape, with -1 where the only free dimension is."""
    if free is None or len(free) > 1:
        return list(x.shape)
    return [-1 if d in free else int(size) for d, size in enumerate(x.shape)]


WEIGHTED: dict[type[nn.Module], Any] = {
    QuantizedConv1d: FloatConv,
    QuantizedConv2d: FloatConv,
    QuantizedConv3d: FloatConv,
    QuantizedFlatNorm: FloatFlatNorm,
    QuantizedLinear: FloatLinear,
}
