"""The steps in float32, each made of views and numbers; what they compute is in `floats.h` and beside it."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from torch import Tensor

from pytest_ptq.engine.kernels.native import structures as c
from pytest_ptq.engine.kernels.native.arena import View
from pytest_ptq.engine.kernels.native.packing import LANES, pack_product, placed, taps_of
from pytest_ptq.engine.kernels.native.steps import Geometry, Step, Windows, at


@dataclass(frozen=True)
class Ending:
    """What follows the sums: an activation of `structures.ACTIVATIONS`, and bounds."""

    activation: str = "none"
    lo: float = -inf
    hi: float = inf

    @property
    def code(self) -> int:
        return c.ACTIVATIONS.index(self.activation)


def float_input(y: View) -> Step:
    """float32 (N, C, H, W), which the program is called with, pixel by pixel."""
    return Step("float_input", [], [y], lambda: (c.FloatInput(None, 0, 0, 0, 0, y.struct()), []))


def float_product(
    x: View, y: View, weight: Tensor, bias: Tensor, geometry: Geometry, ending: Ending, residual: View | None = None
) -> Step:
    """Convolution of float32 (K, C / groups, R, S), perhaps with a residual that is added before it ends."""

    def make() -> tuple[Structure, Sequence[Any]]:
        taps = taps_of(x, weight, geometry)
        packed = pack_product(weight, 0, geometry.groups, taps)
        biases = placed(bias.numpy(), packed.order)
        struct = c.FloatProduct(
            x.struct(*geometry.padding, geometry.stride), y.struct(),
            residual.struct() if residual is not None else c.ViewStruct(),
            at(packed.weight), at(biases), at(taps.offsets), len(taps.offsets), taps.steps, geometry.groups,
            4 * weight.shape[1], packed.blocks, packed.vectors, ending.code, ending.lo, ending.hi,
        )  # fmt: skip
        return struct, [packed.weight, biases, taps.offsets]

    return Step("float_product", [x, *([residual] if residual is not None else [])], [y], make)


def float_depthwise(x: View, y: View, weight: Tensor, bias: Tensor, geometry: Geometry, ending: Ending) -> Step:
    """Convolution of every channel by itself: float32 (C, 1, R, S)."""

    def make() -> tuple[Structure, Sequence[Any]]:
        channels, _, rows, columns = weight.shape
        padded = -(-channels // LANES) * LANES
        order = np.where(np.arange(padded) < channels, np.arange(padded), -1)
        weights = np.stack([placed(w, order) for w in weight.numpy().reshape(channels, -1).T])
        biases, b = placed(bias.numpy(), order), x.buffer
        row, column = geometry.dilation[0] * b.row_bytes, geometry.dilation[1] * b.pixel_bytes
        offsets = np.array([r * row + s * column for r in range(rows) for s in range(columns)], dtype=np.int64)
        struct = c.FloatDepthwise(
            x.struct(*geometry.padding, geometry.stride), y.struct(), at(weights), at(biases), at(offsets),
            len(offsets), ending.code, ending.lo, ending.hi,
        )  # fmt: skip
        return struct, [weights, biases, offsets]

    return Step("float_depthwise", [x], [y], make)


def float_scaling(x: View, factor: View, y: View) -> Step:
    """x times one factor for each image and channel."""
    return Step(
        "float_scaling", [x, factor], [y], lambda: (c.FloatScaling(x.struct(), factor.struct(), y.struct()), [])
    )


def float_addition(a: View, b: View, y: View, ending: Ending) -> Step:
    """Sum of two tensors of one shape."""
    return Step(
        "float_addition", [a, b], [y],
        lambda: (c.FloatAddition(a.struct(), b.struct(), y.struct(), ending.lo, ending.hi), []),
    )  # fmt: skip


def float_pool(x: View, y: View, windows: Windows, maximum: bool, divisor: int = 0) -> Step:
    """Maximum or mean over windows; the mean is the sum through `divisor`, or through what lies in the image."""
    numbers = int(maximum), divisor
    return Step("float_pool", [x], [y], lambda: (c.FloatPool(x.struct(), y.struct(), windows.struct(), *numbers), []))


def float_norm(x: View, y: View, weight: Tensor, bias: Tensor, eps: float) -> Step:
    """Every pixel to a mean of 0 and a variance of 1 over its channels, then times weight (C,), plus bias (C,)."""
    weights, biases = (np.ascontiguousarray(t.numpy(), dtype=np.float32) for t in (weight, bias))
    return Step(
        "float_norm", [x], [y],
        lambda: (c.FloatNorm(x.struct(), y.struct(), at(weights), at(biases), eps), [weights, biases]),
    )  # fmt: skip


def float_copy(x: View, y: View, ending: Ending) -> Step:
    """An activation by itself, or a copy."""
    return Step(
        "float_copy", [x], [y],
        lambda: (c.FloatCopy(x.struct(), y.struct(), ending.code, ending.lo, ending.hi), []),
    )  # fmt: skip


def float_interleave(a: View, b: View, y: View) -> Step:
    """Channels of a and b in turn."""
    return Step("float_interleave", [a, b], [y], lambda: (c.FloatInterleave(a.struct(), b.struct(), y.struct()), []))
