"""Kernels that work value by value: uint8 in, uint8 out, fp32 in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pytest_ptq.engine.affine import QParams


def _saturate(real: Tensor, q: QParams) -> Tensor:
    return real.round_().clamp_(q.quant_min, q.quant_max).to(torch.uint8)


def quantize(x: Tensor, q: QParams, shift: float = 0.0) -> Tensor:
    """float32 -> uint8, with zero at zero_point + shift.

    NaN is refused by nobody here: int8 would hide it, so the caller's fp32 model must show it.
    """
    return _saturate(x.mul(1.0 / q.scale).add_(q.zero_point + shift), q)


def dequantize(x: Tensor, q: QParams) -> Tensor:
    """uint8 -> float32."""
    return x.float().sub_(q.zero_point).mul_(q.scale)


def add(a: Tensor, a_q: QParams, b: Tensor, b_q: QParams, out: QParams) -> Tensor:
    """uint8 + uint8 -> uint8, broadcasting."""
    offset = out.zero_point - a_q.zero_point * a_q.scale / out.scale - b_q.zero_point * b_q.scale / out.scale
    real = torch.add(a.float().mul_(a_q.scale / out.scale).add_(offset), b, alpha=b_q.scale / out.scale)
    return _saturate(real, out)


def mul(a: Tensor, a_q: QParams, b: Tensor, b_q: QParams, out: QParams) -> Tensor:
    """uint8 * uint8 -> uint8, broadcasting."""
    gain = (a_q.scale * b_q.scale) / out.scale
    small, big = (a, b) if a.numel() <= b.numel() else (b, a)
    small_q, big_q = (a_q, b_q) if small is a else (b_q, a_q)
    # One full-size multiply and add: the smaller operand (a gate, one value a channel) absorbs scales and zero points.
    factor = small.float().sub_(small_q.zero_point).mul_(gain)
    offset = factor.mul(-big_q.zero_point).add_(out.zero_point)
    return _saturate(torch.addcmul(offset, big.float(), factor), out)


def lookup(x: Tensor, table: Tensor) -> Tensor:
    """uint8 of any shape -> the table's entry (256,) for each value, in the same memory layout."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        flat = x.permute(0, 2, 3, 1)
        return table.index_select(0, flat.reshape(-1).int()).view(flat.shape).permute(0, 3, 1, 2)
    return table.index_select(0, x.reshape(-1).int()).view(x.shape)


def channel_lookup(x: Tensor, table: Tensor) -> Tensor:
    """uint8 (N, C, ...) -> the entry of its channel's table (C, 256) for each value; channels are last in memory."""
    flat = x.movedim(1, -1)
    index = flat.int() + torch.arange(0, table.numel(), 256, dtype=torch.int32)
    return table.view(-1).index_select(0, index.reshape(-1)).view(flat.shape).movedim(-1, 1)


def mean(x: Tensor, x_q: QParams, out: QParams | None, keepdim: bool = True, dims: Sequence[int] = (-2, -1)) -> Tensor:
    """Mean over some dimensions: uint8 -> uint8, or float32 without `out`; they stay with size 1, or go."""
    sums = x.sum(tuple(dims), dtype=torch.int32, keepdim=keepdim)
    count: Any = math.prod(x.shape[d] for d in dims)
    if isinstance(count, Tensor):  # while a tracer looks on; in float64, where Python's own numbers are
        count = count.double()
    if out is None:
        return sums.float().mul_(1 / count).sub_(x_q.zero_point).mul_(x_q.scale)
    gain = x_q.scale / out.scale / count
    return _saturate(sums.float().mul_(gain).add_(out.zero_point - x_q.zero_point * x_q.scale / out.scale), out)
