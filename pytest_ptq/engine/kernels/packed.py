"""oneDNN's convolutions through torch's quantized tensors, which keep their primitive between calls.

The plain-tensor kernels look for theirs at every call, which on small layers takes longer than the convolution. These
dtypes are announced to be removed from torch: `has_quantized_tensors` asks whether they are there, and whatever uses
this file has the plain kernels to fall back on. For calls from TorchScript; every class is traced, not scripted.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ptq.engine.affine import QParams


@functools.cache
def has_quantized_tensors() -> bool:
    """Whether this torch still has them, and oneDNN behind them."""
    try:
        ops: Any = torch.ops.quantized
        return bool("onednn" in torch.backends.quantized.supported_engines and ops.conv2d_add and torch.quint8)
    except (AttributeError, RuntimeError):
        return False


@contextmanager
def onednn_engine() -> Iterator[None]:
    """Packs with oneDNN inside, and in silence: that these dtypes are deprecated is known."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.quantized.engine = before


def run_with_onednn(program: Any, x: Tensor) -> Any:
    """Call a program with these kernels: they ask at every call which engine is chosen for the process."""
    before = torch.backends.quantized.engine
    if before == "onednn":
        return program(x)
    torch.backends.quantized.engine = "onednn"
    try:
        return program(x)
    finally:
        torch.backends.quantized.engine = before


class PackedConv(nn.Module):
    """A convolution, perhaps with a residual that it writes over, and perhaps with ReLU: quint8 -> quint8."""

    def __init__(
        self,
        weight: Tensor,
        scales: Tensor,
        bias: Tensor | None,
        geometry: tuple[Any, ...],
        out: QParams,
        relu: bool,
        overwrites: bool,
    ) -> None:
        super().__init__()
        zeros = torch.zeros(len(scales), dtype=torch.long)
        quantized = torch._make_per_channel_quantized_tensor(weight, scales.double(), zeros, 0)
        layout = quantized.contiguous(memory_format=torch.channels_last)
        self.packed = torch.ops.quantized.conv2d_prepack(layout, bias, *geometry)
        self.out, self.relu, self.overwrites = (float(out.scale), int(out.zero_point)), relu, overwrites

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        ops: Any = torch.ops.quantized
        y: Tensor
        if residual is None:
            y = (ops.conv2d_relu if self.relu else ops.conv2d)(x, self.packed, *self.out)
        else:
            other = residual if self.overwrites else residual.clone()
            y = (ops.conv2d_add_relu if self.relu else ops.conv2d_add)(x, other, self.packed, *self.out)
        return y


class PackedQuantize(nn.Module):
    """float32 -> quint8, channels last."""

    def __init__(self, out: QParams, shift: float) -> None:
        super().__init__()
        self.out, self.shift = (float(out.scale), int(out.zero_point)), shift * out.scale

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.quantize_per_tensor(x + self.shift if self.shift else x, *self.out, torch.quint8)


class PackedMaxPool2d(nn.Module):
    """Max pooling of quint8."""

    def __init__(self, *geometry: Any) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.max_pool2d(x, *self.geometry)
        return y


class FromPlain(nn.Module):
    """uint8 -> quint8, a copy."""

    def __init__(self, q: QParams) -> None:
        super().__init__()
        self.q = (float(q.scale), int(q.zero_point))

    def forward(self, x: Tensor) -> Tensor:
        return torch._make_per_tensor_quantized_tensor(x, *self.q)


class ToPlain(nn.Module):
    """quint8 -> uint8, a copy."""

    def forward(self, x: Tensor) -> Tensor:
        return x.int_repr()
