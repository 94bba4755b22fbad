"""oneDNN's convolutions and matrix products: packing and calls. With `scripted`, the only file that names a kernel op.

`torch.ops.onednn.*` and `torch.ops.mkldnn.*` are what Inductor itself lowers to, and they outlive torch's quantized
dtypes. The int8 ones take unsigned activations and signed weights, accumulate in int32, scale in fp32, round half to
even and saturate.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
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
        self._shape: list[int] | None = None
        self._packed: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The weight packed for an input (N, C, ...) like `x`. The batch size does not matter."""
        size = x.shape[2:]
        if size != self._size:
            self._shape = list(x.shape)
            self._packed, self._size = self._pack(self._shape), size
        return self._packed

    def again(self) -> Tensor:
        """Another copy of what was packed last."""
        assert self._shape is not None
        return self._pack(self._shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedFor:
        return PackedFor(self._pack)  # oneDNN's layout cannot be copied; it is packed again


def pack_conv(
    weight: Tensor, scales: Tensor, x: QParams, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> PackedFor:
    """int8 (K, C / groups, R, S) or (K, C / groups, Q, R, S) -> oneDNN's own blocked layout."""
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
    """uint8 (N, C, H, W) -> uint8 or float32 (N, K, H', W'); volumes (N, C, D, H, W) too, but without an activation.

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
