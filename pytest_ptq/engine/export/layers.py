"""All other int8 layers as float layers: what each computes, and where it rounds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pytest_ptq.engine import modules as q
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.export.placement import Placement
from pytest_ptq.engine.export.weighted import rounded


class Rounded(nn.Module):
    """A float operation, the rounding of its int8 layer, and what moves the result about behind it."""

    def __init__(
        self,
        compute: Callable[..., Tensor],
        out: QParams | None,
        how: Placement,
        bounds: tuple[int, int] | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.compute, self.out, self.how, self.after = compute, out, how, after
        self.low = 0
        if bounds is not None and out is not None:
            self.low, self.out = bounds[0], replace(out, quant_max=bounds[1])

    def forward(self, *inputs: Tensor) -> Tensor:
        y = self.compute(*inputs)
        y = y if self.out is None else rounded(y, self.out, self.how, self.low)
        if self.after is None:
            return y
        y = self.after(y)
        return y if self.out is None or not self.how.rounds_moves else rounded(y, self.out, self.how)


class Identity(nn.Module):
    """Integers are float here already."""

    def forward(self, x: Any) -> Any:
        return x


def quantize_twin(layer: q.Quantize, x: QParams | None, how: Placement) -> nn.Module:
    shift = layer.shift * layer.out.scale
    return Rounded((lambda v: v + shift) if shift else (lambda v: v), layer.out, how)


def clamp_twin(layer: q.QuantizedClamp, x: QParams | None, how: Placement) -> nn.Module:
    if how.clips_integers:
        return Rounded(lambda v: v, x, how, layer.bounds)
    low, high = ((b - layer.x.zero_point) * layer.x.scale for b in layer.bounds)
    return Rounded(lambda v: v.clamp(low, high), None, how)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """The larger first: OpenVINO takes a product into what dequantizes its first factor, and no other."""
    return a * b if a.numel() >= b.numel() else b * a


def _of_two(function: Callable[..., Tensor]) -> Callable[..., nn.Module]:
    return lambda layer, x, how: Rounded(function, layer.out, how)


def _of_many(function: Callable[[Sequence[Tensor], int], Tensor]) -> Callable[..., nn.Module]:
    return lambda layer, x, how: Rounded(lambda *parts: function(parts, layer.dim), layer.out, how)


Twin = Callable[[Any, "QParams | None", Placement], nn.Module]
"""An int8 layer, how the first tensor that it reads is stored, and what the runtime asks for -> a float layer."""

TWINS: Mapping[type[nn.Module], Twin] = {
    q.Quantize: quantize_twin,
    q.DeQuantize: lambda layer, x, how: Identity(),
    q.QuantizedAdd: _of_two(operator.add),
    q.QuantizedSub: _of_two(operator.sub),
    q.QuantizedMul: _of_two(multiply),
    q.QuantizedMaximum: _of_two(torch.maximum),
    q.QuantizedMinimum: _of_two(torch.minimum),
    q.QuantizedCat: _of_many(lambda parts, dim: torch.cat(list(parts), dim)),
    q.QuantizedStack: _of_many(lambda parts, dim: torch.stack(list(parts), dim)),
    q.QuantizedClamp: clamp_twin,
}
