"""Int8 layers with weights: convolutions and linear layers, each one kernel."""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor

from pytest_ptq.engine import kernels
from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.affine import QParams, conv2d_sums
from pytest_ptq.engine.blocks import Pair, channels_of, conv_output_shape, describe_conv
from pytest_ptq.engine.geometry import is_miscomputed, may_be_miscomputed
from pytest_ptq.engine.modules.borders import Int8Layer

CONV_POST_OPS = frozenset({"none", "relu", "hardtanh", "hardswish", "swish"})
LINEAR_POST_OPS = CONV_POST_OPS | {"gelu", "tanh", "leaky_relu"}
PLAIN: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
"""The output of a kernel that leaves everything to fp32."""


class QuantizedWeighted(Int8Layer):
    """What quantized convolutions and linear layers share: int8 weights with their scales, bias in fp32."""

    weight: Tensor
    scales: Tensor
    bias: Tensor | None
    ceilings: Tensor | None
    prefix, suffix = "Quantized", ""
    post_ops = CONV_POST_OPS
    """What the kernel computes itself. Any other activation is computed behind it in fp32, and rounded once."""
    _packed: Any

    def __init__(
        self,
        weight: Tensor,
        scales: Tensor,
        bias: Tensor | None,
        activation: str,
        x: QParams,
        out: QParams | None,
        ceilings: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)
        self.register_buffer("ceilings", ceilings)
        self.activation, self.x, self.out = activation, x, out
        self.adds = False
        self._prepare()

    def with_tensors(self, **tensors: Tensor | None) -> Self:
        """The same layer with another `weight`, `bias` or `ceilings`, all others shared. This one stays as it is."""
        twin = copy.copy(self)
        twin.__dict__["_buffers"] = {**self._buffers, **tensors}
        twin._prepare()
        if "weight" not in tensors:  # what kernels packed depends on nothing else
            twin._packed = self._packed
        return twin

    def __copy__(self) -> Self:
        # Nothing that a shallow copy shares ever changes: what kernels packed, which cannot be copied, is shared too.
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def _prepare(self) -> None:
        """Work out once what every call passes to the kernel."""
        act = ACTIVATIONS[self.activation]
        scales, bias = self.scales * act.gain, self.bias
        if act.gain != 1.0 or act.shift:
            bias = torch.full_like(scales, act.shift) if bias is None else bias * act.gain + act.shift
        self._bias = bias
        self._call = (self.x.scale, self.x.zero_point, scales, torch.zeros(len(scales), dtype=torch.int32))
        # Kernels saturate at 255. What was not seen in calibration may lie beyond a smaller bound.
        self._bound = self.out.quant_max if self.out is not None and self.out.quant_max < 255 else None
        self._bounds = self._channel_bounds()
        # Saturation does the activation's work only where the largest integer is the ceiling, or beyond no ceiling.
        full = self.out is not None and self.out.quant_max == 255 and self.out.zero_point == 0
        post_op, scalars, algorithm = ("none", (), "") if act.saturates and full else act.post_op
        self._after = None if post_op in self.post_ops else act.function
        if self._after is not None:
            self._out = PLAIN
            return
        q = self.out or QParams(1.0, 0)
        dtype = torch.uint8 if self.out else torch.float32
        self._out = (q.scale, q.zero_point, dtype, post_op, list(scalars), algorithm)

    def _run(self, x: Tensor, out: tuple[Any, ...], residual: Tensor | None = None) -> Tensor:
        """The kernel itself. out: scale, zero point, dtype, post-op, its scalars, its algorithm."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        # What a kernel packed belongs to the kernel, and cannot be copied; it is packed again.
        return {k: v for k, v in self.__dict__.items() if k != "_packed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._prepare()

    def _bounded(self, y: Tensor) -> Tensor:
        if self._after is not None:
            y = self._after(y)
            return y if self.out is None else kernels.quantize(y, self.out)
        if self._bounds is not None:
            return torch.minimum(y, self._bounds)
        return y if self._bound is None else y.clamp_(max=self._bound)

    def _finish(self, y: Tensor) -> Tensor:
        """Activation and one rounding, in fp32."""
        y = ACTIVATIONS[self.activation].function(y)
        y = y if self.out is None else kernels.quantize(y, self.out)
        return y if self._bounds is None else torch.minimum(y, self._bounds)

    def _channel_bounds(self) -> Tensor | None:
        """What each channel is cut off at, as stored; None where nothing that can be stored lies beyond."""
        if self.ceilings is None:
            return None
        ceilings = channels_of(self.ceilings, self.weight)
        if self.out is None:
            return ceilings
        steps = torch.round(ceilings.double() / self.out.scale) + self.out.zero_point
        return None if bool((steps >= self.out.quant_max).all()) else steps.clamp(0, self.out.quant_max).byte()

    def _get_name(self) -> str:
        return f"{self.prefix}{'Add' if self.adds else ''}{ACTIVATIONS[self.activation].title}{self.suffix}"


class QuantizedConv2d(QuantizedWeighted):
    """Convolution, activation and perhaps a residual in one int8 kernel."""

    prefix, suffix = "QuantizedConv", "2d"

    def __init__(
        self,
        weight: Tensor,
        scales: Tensor,
        bias: Tensor | None,
        activation: str,
        x: QParams,
        out: QParams | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
        residual: QParams | None = None,
        ceilings: Tensor | None = None,
    ) -> None:
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        super().__init__(weight, scales, bias, activation, x, out, ceilings)
        self.residual = residual
        self.adds = residual is not None
        self.overwrites = False
        """True when this layer is the last to read its residual, so that the kernel may write over it."""

    def _prepare(self) -> None:
        super()._prepare()
        self._geometry = (list(self.stride), list(self.padding), list(self.dilation), self.groups)
        self._packed = kernels.pack_conv(self.weight, self._call[2], self.x, *self._geometry)
        self._where = (self.weight.shape, self.stride, self.padding, self.dilation, self.x.zero_point)
        self._doubtful = may_be_miscomputed(*self._where)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self._doubtful and is_miscomputed(tuple(map(int, x.shape[2:])), *self._where):
            return self._add_and_finish(self._without_kernel(x), residual)
        if self.residual is None or residual is None:
            return self._bounded(self._run(x, self._out))
        if residual.shape != conv_output_shape(x, self.weight, self.stride, self.padding, self.dilation):
            # The kernel adds tensors of one shape only. What broadcasts is added in fp32.
            return self._add_and_finish(self._run(x, PLAIN), residual)
        layout = torch.channels_last
        other = residual.contiguous(memory_format=layout) if self.overwrites else residual.clone(memory_format=layout)
        return self._bounded(self._run(x, self._out, other))

    def _run(self, x: Tensor, out: tuple[Any, ...], residual: Tensor | None = None) -> Tensor:
        if residual is None or self.residual is None:
            return kernels.conv2d(x, self._packed(x), self._call, self._bias, self._geometry, out)
        q = (self.residual.scale, self.residual.zero_point)
        return kernels.conv2d_add(x, residual, self._packed(x), self._call, self._bias, self._geometry, out, q)

    def _without_kernel(self, x: Tensor) -> Tensor:
        """The exact sums, for what oneDNN computes wrongly: slow, and so is nothing that models often do."""
        sums = conv2d_sums(x, self.x.zero_point, self.weight, self.stride, self.padding, self.dilation, self.groups)
        y = sums.double() * (self.scales.double() * self.x.scale).view(1, -1, 1, 1)
        return (y if self.bias is None else y + self.bias.double().view(1, -1, 1, 1)).float()

    def _add_and_finish(self, y: Tensor, residual: Tensor | None) -> Tensor:
        """Residual, activation and one rounding, in fp32."""
        if residual is not None:
            assert self.residual is not None
            y = y + kernels.dequantize(residual, self.residual)
        return self._finish(y.contiguous(memory_format=torch.channels_last))

    def extra_repr(self) -> str:
        return describe_conv(self.weight, self.stride, self.padding, self.dilation, self.groups, self._quantization())


class QuantizedConv1d(QuantizedConv2d):
    """A convolution over sequences (N, C, L): over images one pixel high."""

    suffix = "1d"

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is not None and residual.ndim:  # what broadcasts may have fewer dimensions
            residual = residual.unsqueeze(-2)
        return super().forward(x.unsqueeze(2), residual).squeeze(2)


class QuantizedFlatNorm(QuantizedConv2d):
    """A batch norm over vectors, sequences or volumes (N, C, ...): over images one pixel wide."""

    suffix = ""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return super().forward(x.reshape(*x.shape[:2], -1, 1), residual).reshape(x.shape)


class QuantizedLinear(QuantizedWeighted):
    """Linear layer with its activation in one int8 kernel."""

    prefix = "QuantizedLinear"
    post_ops = LINEAR_POST_OPS

    def _prepare(self) -> None:
        super()._prepare()
        weight = self.weight
        self._packed = kernels.PackedFor(lambda shape: kernels.pack_linear(weight))

    def forward(self, x: Tensor) -> Tensor:
        return self._bounded(self._run(x.contiguous(), self._out))

    def _run(self, x: Tensor, out: tuple[Any, ...], residual: Tensor | None = None) -> Tensor:
        packed = self._packed(self.weight)  # at the first call; one layout serves every size of x
        return kernels.linear(x, packed, self._call, self._bias, out)

    def extra_repr(self) -> str:
        k, c = self.weight.shape
        return f"in_features={c}, out_features={k}{self._quantization()}"
