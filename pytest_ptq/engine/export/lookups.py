"""Tables of 256 numbers as the functions that they were made from, where one gives exactly that table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ptq.engine import kernels
from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.export.layers import Rounded
from pytest_ptq.engine.export.placement import Placement
from pytest_ptq.engine.export.spelled import softsign
from pytest_ptq.engine.modules import QuantizedChannelLookup, QuantizedLookup, lookup

Function = Callable[[Tensor], Tensor]


def lookup_twin(layer: QuantizedLookup, x: QParams | None, how: Placement) -> nn.Module:
    assert x is not None
    function = find_function(layer, x) or functools.partial(_gather, _reals(layer.table, layer.out), x)
    return Rounded(function, layer.out, how)


def channel_lookup_twin(layer: QuantizedChannelLookup, x: QParams | None, how: Placement) -> nn.Module:
    assert x is not None
    return Rounded(functools.partial(_gather_channels, _reals(layer.table, layer.out), x), layer.out, how)


def find_function(layer: QuantizedLookup, x: QParams) -> Function | None:
    """A function of which `layer.table` is the table."""
    table: Tensor = layer.table  # type: ignore[assignment]
    for function in _candidates(table, layer.out, x):
        found: Tensor = lookup(function, x, layer.out).table  # type: ignore[assignment]
        if torch.equal(found, table) if layer.out is not None else torch.allclose(found, table, 1e-6, 1e-7):
            return function
    return None


def _candidates(table: Tensor, out: QParams | None, x: QParams) -> Iterator[Function]:
    yield from (act.function for name, act in ACTIVATIONS.items() if name != "none")
    yield from (F.elu, F.mish, F.softplus, softsign, F.selu, torch.abs, torch.neg)
    reals = kernels.dequantize(torch.arange(256, dtype=torch.uint8), x).double()
    values = _reals(table, out).double()
    inside = torch.ones(256, dtype=torch.bool)
    if out is not None:
        inside = (table > out.quant_min) & (table < out.quant_max)
    if int(inside.sum()) > 2:
        gain, offset = _line(reals[inside], values[inside])
        yield lambda v: v * gain + offset
        for nice in (round(gain, 4), 1 / round(1 / gain, 4) if abs(gain) > 1e-4 and round(1 / gain, 4) else gain):
            yield functools.partial(_scale, nice)
            yield functools.partial(_shift, round(offset, 4))
    negative = inside & (reals < 0)
    if int(negative.sum()) > 2:
        slope, _ = _line(reals[negative], values[negative])
        for s in (slope, round(slope, 3)):
            yield functools.partial(F.leaky_relu, negative_slope=s)


def _scale(gain: float, v: Tensor) -> Tensor:
    return v * gain


def _shift(offset: float, v: Tensor) -> Tensor:
    return v + offset


def _line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Slope and offset of the straight line closest to y(x)."""
    found = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1), y[:, None]).solution
    return float(found[0]), float(found[1])


def _reals(table: Any, out: QParams | None) -> Tensor:
    reals: Tensor = table if out is None else kernels.dequantize(table, out)
    return reals


def _index(v: Tensor, x: QParams) -> Tensor:
    return torch.round(v / x.scale + x.zero_point).long()


def _gather(values: Tensor, x: QParams, v: Tensor) -> Tensor:
    return values[_index(v, x)]


def _gather_channels(values: Tensor, x: QParams, v: Tensor) -> Tensor:
    first = torch.arange(0, values.numel(), 256).view(-1, *[1] * (v.ndim - 2))
    return values.flatten()[_index(v, x) + first]
