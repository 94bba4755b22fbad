"""x sigmoid(x) and x hardsigmoid(x) as products of two int8 tensors, for a runtime without kernels for them.

ONNX Runtime computes both in float between DequantizeLinear and QuantizeLinear, in three or four passes. It has int8
kernels for a product and, as a table, for a sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.export.functions import read, round_trip, store

ONES = QParams(1 / 255, 0)
"""Numbers from 0 to 1, of which 1 is held exactly."""


@dataclass(frozen=True)
class Product:
    """How an activation is computed from what is stored.

    Args:
        inner: the range of what it reads -> scale and zero point; they may have to be special.
        compute: the float tensor before rounding by `inner`, and `inner` -> the product.
    """

    inner: Callable[[tuple[float, float]], QParams | None]
    compute: Callable[[Tensor, QParams], Tensor]


def hardswish_inner(bounds: tuple[float, float]) -> QParams | None:
    """From -3 on, where the function begins, with a step of which 3 is a multiple.

    (x + 3) / 6, the other factor, is then the same integers with zero point 0 and a sixth of the scale, and ends at
    twice the integer that stands for 3: nothing is rounded a second time.
    """
    high = max(bounds[1], 0.0)
    zero_point = math.floor(255 * 3 / (high + 3))
    return QParams(3 / zero_point, zero_point) if zero_point >= 1 else None


def hardswish_product(x: Tensor, q: QParams) -> Tensor:
    stored = store(x, q)
    gate = read(stored, QParams(q.scale / 6, 0), min(255, 2 * q.zero_point))
    return read(stored, q) * gate


def silu_product(x: Tensor, q: QParams) -> Tensor:
    y = round_trip(x, q)
    return y * round_trip(torch.sigmoid(y), ONES)


PRODUCTS: Mapping[str, Product] = {
    "hardswish": Product(hardswish_inner, hardswish_product),
    "silu": Product(lambda bounds: None, silu_product),
}
