"""Weights in the order in which the kernels read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from pytest_ptq.engine.kernels.native.arena import View
    from pytest_ptq.engine.kernels.native.steps import Geometry

LANES = 16
"""int32 in a vector."""
MOST_VECTORS = 4

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Taps:
    """How a kernel's taps are gone through.

    Args:
        offsets: int64, bytes from an output's first input to each tap.
        steps: of four inputs, in each tap; of one in float32.
        inputs: channels of one tap, and zeros that stand beside them in memory.
        joined: columns that lie side by side in memory and are one tap.
    """

    offsets: Array
    steps: int
    inputs: int
    joined: int


def taps_of(x: View, weight: Tensor, geometry: Geometry) -> Taps:
    """Columns of pixels that lie side by side, with nothing between, are one tap."""
    buffer, (rows, columns) = x.buffer, weight.shape[2:]
    channels = weight.shape[1]
    row, column = geometry.dilation[0] * buffer.row_bytes, geometry.dilation[1] * buffer.pixel_bytes
    dense = geometry.groups == 1 and geometry.dilation[1] == 1 and x.whole and buffer.pixel - channels < 4
    joined = columns if dense else 1
    offsets = [r * row + s * column for r in range(rows) for s in range(0, columns, joined)]
    inputs = buffer.pixel if dense and columns > 1 else channels
    at_once = 4 if buffer.unit == 1 else 1
    return Taps(np.array(offsets, dtype=np.int64), -(-inputs * joined // at_once), inputs, joined)


@dataclass(frozen=True)
class Packed:
    """Arrays for the kernels.

    Args:
        order: which channel each place of `start` belongs to, -1 for none; scales and biases lie likewise.
        stored: the same of the bytes that are stored.
    """

    weight: Array
    start: Array
    order: Array
    stored: Array
    blocks: int = 0
    vectors: int = 0


def pack_product(weight: Tensor, x_zero: int, groups: int, taps: Taps) -> Packed:
    """(K, C / groups, R, S) -> groups, blocks, taps, steps, vectors, 16 channels, and the inputs of a step.

    int8 takes four inputs in a step, float32 one.
    """
    w = weight.numpy()
    outputs, channels, rows, columns = w.shape
    each, at_once = outputs // groups, 4 if w.dtype == np.int8 else 1
    vectors_in_all = -(-each // LANES)
    blocks = -(-vectors_in_all // MOST_VECTORS)
    vectors = -(-vectors_in_all // blocks)
    padded, tap_count = blocks * vectors * LANES, rows * (columns // taps.joined)
    inner = np.zeros((groups, padded, rows, columns, taps.inputs), dtype=w.dtype)
    inner[:, :each, :, :, :channels] = w.reshape(groups, each, channels, rows, columns).transpose(0, 1, 3, 4, 2)
    flat = np.zeros((groups, padded, tap_count, taps.steps * at_once), dtype=w.dtype)
    flat[..., : taps.joined * taps.inputs] = inner.reshape(groups, padded, tap_count, -1)
    tiled = flat.reshape(groups, blocks, vectors, LANES, tap_count, taps.steps, at_once)
    order = np.full((groups, padded), -1)
    order[:, :each] = np.arange(outputs).reshape(groups, each)
    sums = inner.astype(np.int64).sum(axis=(2, 3, 4)) if x_zero else np.zeros((groups, padded))
    flat_order = order.reshape(-1)
    return Packed(
        np.ascontiguousarray(tiled.transpose(0, 1, 4, 5, 2, 3, 6)),
        np.ascontiguousarray((-x_zero * sums).astype(np.int32)), flat_order, flat_order, blocks, vectors,
    )  # fmt: skip


def placed(values: Array, order: Array) -> Array:
    """One value for each place; 0 where a place is nobody's."""
    return np.ascontiguousarray(np.where(order >= 0, values[np.maximum(order, 0)], 0).astype(values.dtype))


CHANNELS = 64
"""Bytes in a vector."""


def pack_depthwise(weight: Tensor, x_zero: int) -> Packed:
    """int8 (C, 1, R, S) -> blocks of 64 channels, columns, quads of rows, 4 vectors, 16 channels, 4 rows.

    Lane 4 j + e of vector v holds channel 16 j + 4 v + e of its block: what interleaving bytes and then pairs of bytes
    makes of 64 channels. A last block of 32 channels or fewer holds them twice: two pixels share its vectors.
    """
    w = weight.numpy().astype(np.int8)[:, 0]
    channels, rows, columns = w.shape
    blocks, quads = -(-channels // CHANNELS), -(-rows // 4)
    padded = np.zeros((blocks * CHANNELS, quads * 4, columns), dtype=np.int8)
    padded[:channels, :rows] = w
    owner = np.where(np.arange(len(padded)) < channels, np.arange(len(padded)), -1)
    if 0 < channels % CHANNELS <= CHANNELS // 2:
        half = CHANNELS // 2
        padded[-half:], owner[-half:] = padded[-CHANNELS:-half], owner[-CHANNELS:-half]
    # channel = 16 j + 4 v + e
    parts = padded.reshape(blocks, 4, 4, 4, quads, 4, columns)  # block, j, v, e, quad, row, column
    tiled = parts.transpose(0, 6, 4, 2, 1, 3, 5)  # block, column, quad, v, j, e, row
    places = np.arange(blocks * CHANNELS).reshape(blocks, 4, 4, 4).transpose(0, 2, 1, 3).reshape(-1)
    sums = padded.astype(np.int64).sum(axis=(1, 2))
    return Packed(
        np.ascontiguousarray(tiled),
        np.ascontiguousarray((-x_zero * sums[places]).astype(np.int32)),
        owner[places],
        owner,
    )
