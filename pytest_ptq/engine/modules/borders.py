"""Where integers begin and end, and what every int8 layer has in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pytest_ptq.engine import kernels
from pytest_ptq.engine.affine import QParams


class Int8Layer(nn.Module):
    """A layer that reads uint8 and writes uint8, or float32 when nothing after it wants integers."""

    out: QParams | None = None

    @property
    def writes_integers(self) -> bool:
        return self.out is not None

    def _quantization(self) -> str:
        return f", scale={self.out.scale:.8g}, zero_point={self.out.zero_point}" if self.out else ", output=float32"


class Quantize(nn.Module):
    """float32 -> uint8, where the int8 part of a model begins.

    shift: how far a real zero lies above the zero point, in steps, where the integers are laid on a grid.
    """

    def __init__(self, out: QParams, shift: float = 0.0) -> None:
        super().__init__()
        self.out, self.shift = out, shift

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return kernels.quantize(x, self.out, self.shift)

    def extra_repr(self) -> str:
        zero = f"{self.out.zero_point + self.shift:.8g}"
        return f"scale={self.out.scale:.8g}, zero_point={zero}, dtype=torch.uint8"


class DeQuantize(nn.Module):
    """uint8 -> float32, where it ends."""

    def __init__(self, x: QParams) -> None:
        super().__init__()
        self.x = x

    def forward(self, x: Any) -> Any:
        if isinstance(x, (tuple, list)):  # the parts of a chunk or split
            return type(x)(map(self.forward, x))
        return kernels.dequantize(x, self.x)


class IntegerLayer(Int8Layer):
    """A layer that works on stored integers: its output has the scale and zero point of its input."""

    @property
    def writes_integers(self) -> bool:
        return True
