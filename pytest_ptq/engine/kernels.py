"""x86 int8 kernels: packing and calls. The only file that names a kernel op.

All of them work on plain uint8 and int8 tensors, channels last: `torch.ops.onednn.*` and `torch.ops.mkldnn.*` are what
Inductor itself lowers to, and they outlive torch's quantized dtypes. oneDNN's convolution and matrix product take
unsigned activations and signed weights, accumulate in int32, scale in fp32, round half to even and saturate.
Elementwise kernels here read and write uint8 and compute in fp32 in between.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_ptq.engine.affine import QParams

_onednn = torch.ops.onednn
_mkldnn = torch.ops.mkldnn

ENGINE = "onednn"

FLOAT_ACTIVATIONS: dict[str, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "hardswish": ("hardswish", []),
    "silu": ("swish", []),
    "sigmoid": ("sigmoid", []),
    "tanh": ("tanh", []),
    "leaky_relu": ("leaky_relu", [0.01]),
}
"""Activation -> name and scalars of the post-op that a convolution or linear kernel computes itself."""


class PackedFor:
    """A weight in the layout that a kernel wants for one input size, packed again when the size changes.

    oneDNN chooses the layout by the size of the image. Packed for another one, a weight is reordered at every call,
    by a reference loop: up to fifty times the convolution itself (1024 to 512 channels at 14 x 14: 25 ms for 0.5).
    """

    def __init__(self, pack: Callable[[list[int]], Tensor]) -> None:
        self._pack = pack
        self._size: torch.Size | None = None
        self._packed: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The weight packed for an input (N, C, H, W) like `x`. The batch size does not matter."""
        size = x.shape[2:]
        if size != self._size:
            self._packed, self._size = self._pack(list(x.shape)), size
        return self._packed

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedFor:
        return PackedFor(self._pack)  # oneDNN's layout cannot be copied; it is packed again


def pack_conv2d(
    weight: Tensor, scales: Tensor, x: QParams, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> PackedFor:
    """int8 (K, C / groups, R, S) -> oneDNN's own blocked layout."""
    geometry = (stride, padding, dilation, groups)
    return PackedFor(lambda shape: _onednn.qconv_prepack(weight, scales, x.scale, x.zero_point, *geometry, shape))


def conv2d(
    x: Tensor,
    packed: Tensor,
    call: tuple[Any, ...],
    bias: Tensor | None,
    geometry: tuple[Any, ...],
    out: tuple[Any, ...],
) -> Tensor:
    """uint8 (N, C, H, W) -> uint8 or float32 (N, K, H', W').

    Args:
        call: x_scale, x_zero_point, weight scales, weight zero points.
        geometry: stride, padding, dilation, groups.
        out: scale, zero point, dtype, activation, its scalars, its algorithm.
    """
    x_scale, x_zero, w_scale, w_zero = call
    y: Tensor = _onednn.qconv_pointwise(x, x_scale, x_zero, packed, w_scale, w_zero, bias, *geometry, *out)
    return y


def conv2d_add(
    x: Tensor,
    other: Tensor,
    packed: Tensor,
    call: tuple[Any, ...],
    bias: Tensor | None,
    geometry: tuple[Any, ...],
    out: tuple[Any, ...],
    other_q: tuple[float, int],
) -> Tensor:
    """As `conv2d`, plus a uint8 residual with its own scale and zero point. Overwrites `other`."""
    x_scale, x_zero, w_scale, w_zero = call
    scale, zero, dtype, activation, scalars, algorithm = out
    y: Tensor = _onednn.qconv2d_pointwise.binary(
        x, x_scale, x_zero, packed, w_scale, w_zero, other, bias, *geometry, scale, zero, dtype,
        *other_q, "sum", 1.0, activation, scalars, algorithm,
    )  # fmt: skip
    return y


def pack_linear(weight: Tensor) -> Tensor:
    """int8 (K, C) -> oneDNN's own blocked layout."""
    packed: Tensor = _onednn.qlinear_prepack(weight, None)
    return packed


def linear(x: Tensor, packed: Tensor, call: tuple[Any, ...], bias: Tensor | None, out: tuple[Any, ...]) -> Tensor:
    """uint8 (..., C) -> uint8 or float32 (..., K)."""
    x_scale, x_zero, w_scale, w_zero = call
    y: Tensor = _onednn.qlinear_pointwise(x, x_scale, x_zero, packed, w_scale, w_zero, bias, *out)
    return y


@functools.cache
def saturates_int16() -> bool:
    """True where sums of two products saturate in int16: x86 without VNNI (vpmaddubsw).

    Asked of the kernel itself, so that an instruction set held back from outside counts too.
    """
    x = torch.full((1, 64), 255, dtype=torch.uint8)
    weight = torch.full((16, 64), 127, dtype=torch.int8)
    one = QParams(1.0, 0)
    call = (one.scale, one.zero_point, torch.ones(16), torch.zeros(16, dtype=torch.int32))
    y = linear(x, pack_linear(weight), call, None, (1.0, 0, torch.float32, "none", [], ""))
    return float(y[0, 0]) != 255 * 127 * 64


def _saturate(real: Tensor, q: QParams) -> Tensor:
    return real.round_().clamp_(q.quant_min, q.quant_max).to(torch.uint8)


def quantize(x: Tensor, q: QParams) -> Tensor:
    """float32 -> uint8. NaN is refused by nobody here: int8 would hide it, so the caller's fp32 model must show it."""
    return _saturate(x.mul(1.0 / q.scale).add_(q.zero_point), q)


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


def mean(x: Tensor, x_q: QParams, out: QParams | None, keepdim: bool = True) -> Tensor:
    """Mean over height and width: uint8 (..., H, W) -> uint8, or float32 without `out`, (..., 1, 1) or (...)."""
    sums = x.sum((-2, -1), dtype=torch.int32, keepdim=keepdim)
    area = x.shape[-2] * x.shape[-1]
    if out is None:
        return sums.float().mul_(1 / area).sub_(x_q.zero_point).mul_(x_q.scale)
    gain = x_q.scale / out.scale / area
    return _saturate(sums.float().mul_(gain).add_(out.zero_point - x_q.zero_point * x_q.scale / out.scale), out)


def max_pool2d(
    x: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
) -> Tensor:
    """Max pooling, exact: uint8 (N, C, H, W) -> uint8 (N, C, H', W').

    torch's own counts positions in the tensor's type and so refuses uint8 images of more than 255 pixels. The maximum
    over a window is the maximum over its rows and then its columns, and each of those is one of a few strided views:
    a fifth of the time that pooling in fp32 takes. Padding with 0, the smallest integer, never wins.
    """
    sizes = [
        _pooled(size, k, s, p, d, ceil_mode)
        for size, k, s, p, d in zip(x.shape[2:], kernel_size, stride, padding, dilation, strict=True)
    ]
    reach = [(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in zip(sizes, kernel_size, stride, dilation, strict=True)]
    after = [max(r - size - p, 0) for r, size, p in zip(reach, x.shape[2:], padding, strict=True)]
    if any(padding) or any(after):
        x = F.pad(x, (padding[1], after[1], padding[0], after[0]))
    for dim in (0, 1):
        x = functools.reduce(
            torch.maximum,
            (
                x.narrow(dim + 2, i * dilation[dim], (sizes[dim] - 1) * stride[dim] + 1)[
                    (slice(None),) * (dim + 2) + (slice(None, None, stride[dim]),)
                ]
                for i in range(kernel_size[dim])
            ),
        )
    # A window of one element leaves a view; a result of its own may be written over by who reads it last.
    return x.clone(memory_format=torch.channels_last) if max(kernel_size) == 1 else x


def _pooled(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Number of windows along one dimension, as torch counts them: with ceil_mode the last must begin inside."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = room // stride + 1
    if ceil_mode and room % stride and count * stride < size + padding:
        count += 1
    return count


def pack_float_conv2d(
    weight: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> PackedFor:
    """float32 (K, C / groups, R, S) -> oneDNN's own blocked layout, so that no call reorders it again."""
    geometry = (padding, stride, dilation, groups)
    return PackedFor(lambda shape: _mkldnn._reorder_convolution_weight(weight, *geometry, shape))


def float_conv2d(x: Tensor, packed: Tensor, bias: Tensor | None, geometry: tuple[Any, ...], activation: str) -> Tensor:
    """float32 convolution with its activation in the same kernel. geometry: stride, padding, dilation, groups."""
    stride, padding, dilation, groups = geometry
    name, scalars = FLOAT_ACTIVATIONS[activation]
    y: Tensor = _mkldnn._convolution_pointwise(x, packed, bias, padding, stride, dilation, groups, name, scalars, "")
    return y


def float_conv2d_add(
    x: Tensor, other: Tensor, packed: Tensor, bias: Tensor | None, geometry: tuple[Any, ...], relu: bool
) -> Tensor:
    """float32 convolution plus residual (plus ReLU) in one kernel."""
    stride, padding, dilation, groups = geometry
    y: Tensor = _mkldnn._convolution_pointwise.binary(
        x, other, packed, bias, padding, stride, dilation, groups, "add", 1.0, "relu" if relu else None, [], ""
    )
    return y
