"""The steps of a program, each made of views and numbers; what they compute is in `program.h` and beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import Structure
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.kernels.native import structures as c
from pytest_ptq.engine.kernels.native.arena import Buffer, View
from pytest_ptq.engine.kernels.native.packing import Packed, pack_depthwise, pack_product, placed, taps_of

Array = np.ndarray[Any, Any]


@dataclass
class Step:
    """One step.

    Args:
        kind: of `structures.KINDS`.
        reads, writes: views; their buffers live as long as a step touches them.
        make: its structure, once addresses are known, and the arrays that it points to.
        layer: of the model, for which it is done.
    """

    kind: str
    reads: Sequence[View]
    writes: Sequence[View]
    make: Callable[[], tuple[Structure, Sequence[Any]]]
    layer: str = ""

    @property
    def buffers(self) -> list[Buffer]:
        return [view.buffer for view in (*self.reads, *self.writes)]


@dataclass(frozen=True)
class Rounding:
    """How sums become integers.

    Args:
        scale, bias: float32 (K,): sums -> real numbers.
        out: of the integers; None leaves real numbers.
        activation: of `structures.ACTIVATIONS`.
        lo, hi: lowest and highest integer, the latter for all or for each channel (K,).
        floor, ceiling: lowest and highest real number.
    """

    scale: Tensor
    bias: Tensor
    out: QParams | None
    activation: str = "none"
    lo: int = 0
    hi: Any = 255
    floor: float = -inf
    ceiling: float = inf


@dataclass(frozen=True)
class Geometry:
    """Of a convolution. padding: rows above the image and columns left of it where the first window begins."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def product(
    x: View, y: View, weight: Tensor, x_q: QParams, geometry: Geometry, to: Rounding,
    residual: tuple[View, QParams] | None = None,
) -> Step:  # fmt: skip
    """Convolution of int8 (K, C / groups, R, S) with a view whose border is as wide as what is read beyond the edges.

    A matrix product is one of images of one pixel. `y`: integers, or float32 where `to` has no scale.
    """
    reads = [x, *([residual[0]] if residual else [])]

    def make() -> tuple[Structure, Sequence[Any]]:
        taps = taps_of(x, weight, geometry)
        packed = pack_product(weight, x_q.zero_point, geometry.groups, taps)
        rounding, kept = _rounding(to, packed, residual)
        struct = c.Product(
            x.struct(*geometry.padding, geometry.stride), y.struct(),
            residual[0].struct() if residual else c.ViewStruct(),
            residual[1].scale / (to.out.scale if to.out else 1.0) if residual else 0.0,
            at(packed.weight), at(packed.start), at(taps.offsets), len(taps.offsets), taps.steps, geometry.groups,
            weight.shape[1], packed.blocks, packed.vectors, int(to.out is None), rounding,
        )  # fmt: skip
        return struct, [packed.weight, packed.start, taps.offsets, *kept]

    return Step("product", reads, [y], make)


def depthwise(x: View, y: View, weight: Tensor, x_q: QParams, geometry: Geometry, to: Rounding) -> Step:
    """Convolution of every channel by itself: int8 (C, 1, R, S). `y`: integers or float32, as for `product`."""

    def make() -> tuple[Structure, Sequence[Any]]:
        packed: Packed = pack_depthwise(weight, x_q.zero_point)
        rounding, kept = _rounding(to, packed, None)
        b = x.buffer
        struct = c.Depthwise(
            x.struct(*geometry.padding, geometry.stride), y.struct(), at(packed.weight), at(packed.start),
            geometry.dilation[0] * b.row_bytes, geometry.dilation[1] * b.pixel_bytes, *weight.shape[2:],
            int(to.out is None), rounding,
        )  # fmt: skip
        return struct, [packed.weight, packed.start, *kept]

    return Step("depthwise", [x], [y], make)


def _rounding(to: Rounding, packed: Packed, residual: tuple[View, QParams] | None) -> tuple[c.Rounding, list[Array]]:
    scale, bias = to.scale.double().numpy(), to.bias.double().numpy()
    per_step, zero = 1.0, 0.0
    if to.out is not None:
        per_step, zero = 1.0 / to.out.scale, float(to.out.zero_point)
        if to.activation == "none":
            scale, bias = scale * per_step, bias * per_step + zero
    if residual is not None:
        bias = bias - residual[1].zero_point * residual[1].scale * per_step
    hi = np.broadcast_to(np.asarray(to.hi, dtype=np.uint8), (len(scale),))
    arrays = [placed(a, packed.order) for a in (scale.astype(np.float32), bias.astype(np.float32))]
    arrays.append(placed(hi, packed.stored))
    numbers = (per_step, zero, c.ACTIVATIONS.index(to.activation), to.lo, to.floor, to.ceiling)
    struct = c.Rounding(*map(at, arrays), *numbers)
    return struct, arrays


def quantize(y: View, q: QParams, shift: float) -> Step:
    """float32 (N, C, H, W), which the program is called with, -> integers."""

    def make() -> tuple[Structure, Sequence[Any]]:
        numbers = (1.0 / q.scale, q.zero_point + shift, q.quant_max)
        return c.QuantizeStruct(None, 0, 0, 0, 0, y.struct(), *numbers), []

    return Step("quantize", [], [y], make)


def quantize_view(x: View, y: View, q: QParams, shift: float) -> Step:
    """float32 that lies in memory -> integers."""

    def make() -> tuple[Structure, Sequence[Any]]:
        v, numbers = x.struct(), (1.0 / q.scale, q.zero_point + shift, q.quant_max)
        unit = x.buffer.unit
        strides = v.image // unit, 1, v.row // unit, v.pixel // unit
        return c.QuantizeStruct(v.data, *strides, y.struct(), *numbers), []

    return Step("quantize", [x], [y], make)


def dequantize(x: View, y: View, q: QParams) -> Step:
    """Integers -> float32."""
    return Step("dequantize", [x], [y], lambda: (c.DequantizeStruct(x.struct(), y.struct(), q.scale, q.zero_point), []))


def scaling(x: View, x_q: QParams, factor: View, factor_q: QParams, y: View, out: QParams) -> Step:
    """x times one factor for each image and channel."""
    gain = x_q.scale * factor_q.scale / out.scale
    numbers = (gain, x_q.zero_point, factor_q.zero_point, out.zero_point, out.quant_max)
    return Step("scaling", [x, factor], [y], lambda: (c.Scaling(x.struct(), factor.struct(), y.struct(), *numbers), []))


def addition(a: View, a_q: QParams, b: View, b_q: QParams, y: View, out: QParams) -> Step:
    """Sum of two tensors of one shape."""
    a_gain, b_gain = a_q.scale / out.scale, b_q.scale / out.scale
    zero = out.zero_point - a_q.zero_point * a_gain - b_q.zero_point * b_gain
    numbers = (a_gain, b_gain, zero, out.quant_max)
    return Step("addition", [a, b], [y], lambda: (c.Addition(a.struct(), b.struct(), y.struct(), *numbers), []))


def mean(x: View, x_q: QParams, y: View, out: QParams | None) -> Step:
    """Mean over height and width: integers, or float32 without a scale."""
    count = x.shape[2] * x.shape[3]
    scale, zero_point, hi = (out.scale, out.zero_point, out.quant_max) if out else (1.0, 0, 255)
    gain = x_q.scale / scale / count
    numbers = (gain, zero_point - x_q.zero_point * x_q.scale / scale, int(out is None), hi)
    return Step("mean", [x], [y], lambda: (c.Mean(x.struct(), y.struct(), *numbers), []))


@dataclass(frozen=True)
class Windows:
    """What is pooled. A stride of (0, 0): as many windows as the result has pixels, which share the image."""

    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int] = (0, 0)

    def struct(self) -> c.Windows:
        return c.Windows(*self.kernel, *self.stride, *self.padding)


SHARED = Windows((0, 0), (0, 0))


def maximum(x: View, y: View, windows: Windows) -> Step:
    """Maximum over windows; what lies beyond the edges never wins."""
    return Step("maximum", [x], [y], lambda: (c.Maximum(x.struct(), y.struct(), windows.struct()), []))


def average(x: View, x_q: QParams, y: View, out: QParams | None, windows: Windows, divisor: int = 0) -> Step:
    """Mean over windows: sums through `divisor`, or where that is 0 through what of the image lies in the window.

    Integers, or float32 without a scale.
    """
    scale, zero_point, hi = (out.scale, out.zero_point, out.quant_max) if out else (1.0, 0, 255)
    numbers = (x_q.scale / scale, x_q.zero_point, zero_point, divisor, int(out is None), hi)
    return Step("average", [x], [y], lambda: (c.Average(x.struct(), y.struct(), windows.struct(), *numbers), []))


def copy(x: View, y: View, table: Tensor | None = None) -> Step:
    """x as it is, or each value by a table of 256."""
    return Step("copy", [x], [y], lambda: (c.Copy(x.struct(), y.struct(), _table_at(table)), [table]))


def interleave(a: View, a_table: Tensor | None, b: View, b_table: Tensor | None, y: View) -> Step:
    """Channels of a and b in turn."""
    return Step(
        "interleave", [a, b], [y],
        lambda: (
            c.Interleave(a.struct(), b.struct(), y.struct(), _table_at(a_table), _table_at(b_table)),
            [a_table, b_table],
        ),
    )  # fmt: skip


def border(buffer: Buffer, layer: str) -> Step:
    """What lies around a buffer's images."""
    view = View(buffer, 0, buffer.channels)

    def make() -> tuple[Structure, Sequence[Any]]:
        return c.Border(view.struct(), *buffer.border, buffer.value), []

    return Step("border", [], [view], make, layer)


def _table_at(table: Tensor | None) -> int | None:
    if table is None:
        return None
    assert (table.dtype, table.shape, table.is_contiguous()) == (torch.uint8, (256,), True)
    return table.data_ptr()


def at(array: Array) -> int:
    return int(array.ctypes.data)
