"""Where a program's tensors lie: addresses that are fixed when it is built, and memory that is used again.

An image is stored channels last, perhaps with a border of pixels that hold what stands for zero, so that convolutions
need not ask where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pytest_ptq.engine.kernels.native.structures import ViewStruct

ALIGNED = 64
BEYOND = 64
"""Bytes behind a buffer that may be read, not used: products take four inputs at a time."""


@dataclass(eq=False)
class Buffer:
    """Memory for `images` x `rows` x `columns` pixels of `channels` numbers.

    Args:
        pixel: numbers from one pixel to the next.
        unit: bytes of a number: 1, or 4 of float32.
        border: pixels above and below, and at either side. It grows with whoever reads beyond the edges.
        value: what the bytes of the border hold.
        fixed: memory that is there already; `address` is its.
    """

    images: int
    rows: int
    columns: int
    channels: int
    pixel: int
    unit: int = 1
    border: tuple[int, int] = (0, 0)
    value: int = 0
    address: int = 0
    fixed: Tensor | None = None

    @property
    def pixel_bytes(self) -> int:
        return self.pixel * self.unit

    @property
    def row_bytes(self) -> int:
        return (self.columns + 2 * self.border[1]) * self.pixel_bytes

    @property
    def image_bytes(self) -> int:
        return (self.rows + 2 * self.border[0]) * self.row_bytes

    @property
    def bytes(self) -> int:
        return self.images * self.image_bytes + BEYOND

    def widen(self, rows: int, columns: int, value: int) -> bool:
        """Ask for a border. False where somebody else wants another value there."""
        if not rows and not columns:
            return True
        if any(self.border) and self.value != value:
            return False
        self.border = (max(self.border[0], rows), max(self.border[1], columns))
        self.value = value
        return True

    def fix(self, memory: Tensor) -> None:
        """Lie in a tensor."""
        self.fixed, self.address = memory, memory.data_ptr()


@dataclass(frozen=True)
class View:
    """Some channels of a buffer."""

    buffer: Buffer
    first: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, rows, columns."""
        return self.buffer.images, self.channels, self.buffer.rows, self.buffer.columns

    @property
    def whole(self) -> bool:
        return self.first == 0 and self.channels == self.buffer.channels

    def part(self, first: int, channels: int) -> View:
        return replace(self, first=self.first + first, channels=channels)

    def struct(self, above: int = 0, left: int = 0, stride: tuple[int, int] = (1, 1)) -> ViewStruct:
        """For the program; it may begin in the border, and go in steps of more than one pixel."""
        b = self.buffer
        rows, columns = b.border[0] - above, b.border[1] - left
        return ViewStruct(
            b.address + rows * b.row_bytes + columns * b.pixel_bytes + self.first * b.unit,
            b.image_bytes, stride[0] * b.row_bytes, stride[1] * b.pixel_bytes, b.images, b.rows, b.columns,
            self.channels,
        )  # fmt: skip


def image(shape: Sequence[int], pixel: int | None = None, unit: int = 1) -> View:
    """A new buffer for (N, C, H, W) or (N, C)."""
    n, c, h, w = (*shape, 1, 1)[:4]
    return View(Buffer(n, h, w, c, pixel or c, unit), 0, c)


@dataclass
class _Free:
    """Pieces of memory that nobody needs any more, as (begin, end)."""

    pieces: list[tuple[int, int]] = field(default_factory=list)
    top: int = 0

    def take(self, size: int) -> int:
        fitting = [p for p in self.pieces if p[1] - p[0] >= size]
        if not fitting:
            begin, self.top = self.top, self.top + size
            return begin
        begin, end = min(fitting, key=lambda p: p[1] - p[0])
        self.pieces.remove((begin, end))
        if end - begin > size:
            self.pieces.append((begin + size, end))
        return begin

    def give(self, begin: int, size: int) -> None:
        self.pieces.append((begin, begin + size))
        merged: list[tuple[int, int]] = []
        for piece in sorted(self.pieces):
            if merged and merged[-1][1] == piece[0]:
                merged[-1] = (merged[-1][0], piece[1])
            else:
                merged.append(piece)
        self.pieces = merged


def place(uses: Sequence[Sequence[Buffer]]) -> Tensor:
    """Give every buffer an address. uses: the buffers that each step touches, in order. Returns the memory."""
    uses = [[buffer for buffer in buffers if buffer.fixed is None] for buffers in uses]
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, buffers in enumerate(uses):
        for buffer in buffers:
            first.setdefault(id(buffer), i)
            last[id(buffer)] = i
    free, offsets = _Free(), dict[int, int]()
    for i, buffers in enumerate(uses):
        mine = list(dict.fromkeys(buffers))
        for buffer in mine:
            if first[id(buffer)] == i:
                offsets[id(buffer)] = free.take(_rounded(buffer.bytes))
        for buffer in mine:
            if last[id(buffer)] == i:
                free.give(offsets[id(buffer)], _rounded(buffer.bytes))
    memory = torch.zeros(free.top + ALIGNED, dtype=torch.uint8)
    begin = _rounded(memory.data_ptr())
    for buffers in uses:
        for buffer in buffers:
            buffer.address = begin + offsets[id(buffer)]
    return memory


def _rounded(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
