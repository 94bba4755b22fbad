"""Int8 layers that work value by value: sums, products, tables, clamps and concatenation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_ptq.engine import kernels
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.modules.borders import Int8Layer, IntegerLayer


class QuantizedAdd(Int8Layer):
    """Elementwise sum of two int8 tensors."""

    def __init__(self, a: QParams, b: QParams, out: QParams | None) -> None:
        super().__init__()
        self.a, self.b, self.out = a, b, out

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if self.out is None:
            return kernels.dequantize(a, self.a) + kernels.dequantize(b, self.b)
        return kernels.add(a, self.a, b, self.b, self.out)

    def extra_repr(self) -> str:
        return self._quantization()[2:]


class QuantizedMul(QuantizedAdd):
    """Elementwise product of two int8 tensors."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if self.out is None:
            return kernels.dequantize(a, self.a) * kernels.dequantize(b, self.b)
        return kernels.mul(a, self.a, b, self.b, self.out)


class QuantizedSub(QuantizedAdd):
    """Elementwise difference of two int8 tensors."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        negative = replace(self.b, scale=-self.b.scale)
        if self.out is None:
            return kernels.dequantize(a, self.a) + kernels.dequantize(b, negative)
        return kernels.add(a, self.a, b, negative, self.out)


class QuantizedClamp(IntegerLayer):
    """ReLU or ReLU6 that stands alone: a clamp of stored integers."""

    def __init__(self, x: QParams, ceiling: float | None) -> None:
        super().__init__()
        self.x, self.ceiling = x, ceiling
        steps = x.quant_max - x.zero_point if ceiling is None else round(ceiling / x.scale)
        self.bounds = (x.zero_point, min(x.zero_point + steps, x.quant_max))

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(*self.bounds)

    def extra_repr(self) -> str:
        return f"bounds={self.bounds}"


class QuantizedLookup(Int8Layer):
    """A function of one number, as its values at all 256 integers: one rounding, and exact otherwise."""

    def __init__(self, table: Tensor, out: QParams | None, name: str = "") -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.out, self.name = out, name

    def forward(self, x: Tensor) -> Tensor:
        return kernels.lookup(x, self.table)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return f"{self.name}{self._quantization()}".removeprefix(", ")


def lookup(function: Callable[[Tensor], Any], x: QParams, out: QParams | None, name: str = "") -> QuantizedLookup:
    """The table of a float function: uint8 by `x` -> uint8 by `out`, or float32 without it.

    A value that is not finite (a logarithm of what never occurs) is stored as zero is.
    """
    reals = kernels.dequantize(torch.arange(256, dtype=torch.uint8), x)
    with torch.no_grad():
        values = torch.nan_to_num(function(reals).detach().float(), 0.0, 0.0, 0.0)
    return QuantizedLookup(values if out is None else kernels.quantize(values, out), out, name)


class QuantizedChannelLookup(Int8Layer):
    """A function of one number that differs between channels (dimension 1): a table (C, 256)."""

    def __init__(self, table: Tensor, out: QParams | None, name: str = "") -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.out, self.name = out, name

    def forward(self, x: Tensor) -> Tensor:
        return kernels.channel_lookup(x, self.table)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return f"{self.name}{self._quantization()}".removeprefix(", ")


def channel_lookup(
    function: Callable[[Tensor], Any], channels: int, x: QParams, out: QParams | None, name: str = ""
) -> QuantizedChannelLookup:
    """The tables of a float function of (N, C): uint8 by `x` -> uint8 by `out`, or float32 without it."""
    reals = kernels.dequantize(torch.arange(256, dtype=torch.uint8), x)
    with torch.no_grad():
        values = function(reals.view(-1, 1).expand(-1, channels)).detach().float().T.contiguous()
    return QuantizedChannelLookup(values if out is None else kernels.quantize(values, out), out, name)


def _rescaling(x: QParams, out: QParams) -> Tensor:
    table: Tensor = lookup(lambda v: v, x, out).table  # type: ignore[assignment]
    return table


class _InOneScale(Int8Layer):
    """Reads several tensors. What is not stored in its own scale already is brought into it by a table."""

    def __init__(self, inputs: Sequence[QParams], out: QParams | None) -> None:
        super().__init__()
        self.inputs, self.out = list(inputs), out
        self.tables: list[Tensor | None] = [
            None if q == out or out is None else _rescaling(q, out) for q in self.inputs
        ]

    def _bring(self, parts: Sequence[Tensor]) -> list[Tensor]:
        if self.out is None:
            return [kernels.dequantize(x, q) for x, q in zip(parts, self.inputs, strict=True)]
        tables = zip(parts, self.tables, strict=True)
        return [x if t is None else kernels.lookup(x, t) for x, t in tables]

    def extra_repr(self) -> str:
        rescaled = sum(t is not None for t in self.tables)
        return f"inputs={len(self.inputs)}, rescaled={rescaled}{self._quantization()}"


class QuantizedCat(_InOneScale):
    """Concatenation."""

    def __init__(self, inputs: Sequence[QParams], out: QParams | None, dim: int) -> None:
        super().__init__(inputs, out)
        self.dim = dim

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(self._bring(parts), self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, {super().extra_repr()}"


class QuantizedStack(QuantizedCat):
    """Tensors laid along a new dimension."""

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.stack(self._bring(parts), self.dim)


class QuantizedMaximum(_InOneScale):
    """The larger of two numbers. Rounding keeps their order: what is rounded once before is rounded once."""

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.maximum(*self._bring(parts))


class QuantizedMinimum(_InOneScale):
    """The smaller of two numbers."""

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.minimum(*self._bring(parts))


class QuantizedPad(IntegerLayer):
    """Padding with zeros: with the integer that stands for zero."""

    def __init__(self, x: QParams, pad: Sequence[int]) -> None:
        super().__init__()
        self.x, self.pad = x, list(pad)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pad, value=self.x.zero_point)

    def extra_repr(self) -> str:
        return f"pad={self.pad}"
