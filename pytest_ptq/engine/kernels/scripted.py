"""oneDNN's int8 kernels in TorchScript's dialect, for models that leave Python.

A tracer cannot record these operators (their scalars are a list that may hold None), and a file cannot hold packed
weights (their layout is oneDNN's own). So each layer carries its plain int8 weight and a scripted function, which packs
it at the first call for a size of input.
"""

# ruff: noqa: UP006, UP007, UP035, UP045 - the compiler knows these names
# mypy: disable-error-code="assignment, no-untyped-call, no-any-return, comparison-overlap, unreachable"
# In TorchScript a size is a list of numbers and operators have types, of which mypy knows nothing.
# No `from __future__ import annotations`: the compiler reads types, not strings.

from typing import Any, List, Optional, Union

import torch
from torch import Tensor, nn


class ScriptedKernel(nn.Module):
    """What convolutions and linear layers share: the plain weight, and all that a call passes on.

    Args:
        weight, scales, bias: as the layer holds them; the activation's gain is in scales and bias already.
        x: scale and zero point of the input.
        out: scale, zero point, dtype, post-op, its scalars, its algorithm.
    """

    size: List[int]
    packed: Optional[Tensor]
    ready: Optional[Tensor]
    scalars: List[float]
    bias: Optional[Tensor]

    def __init__(
        self, weight: Tensor, scales: Tensor, bias: Tensor | None, x: tuple[float, int], out: tuple[Any, ...]
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int32))
        self.x_scale, self.x_zero = x
        self.out_scale, self.out_zero, self.post_op, self.algorithm = float(out[0]), int(out[1]), out[3], out[5]
        self.integers = out[2] is torch.uint8
        self.scalars = [float(v) for v in out[4]]
        self.packed, self.size = None, [0]
        self.ready = None


class ScriptedConv(ScriptedKernel):
    """A convolution over images or volumes; with a residual, which it overwrites, over images."""

    def __init__(
        self,
        weight: Tensor,
        scales: Tensor,
        bias: Tensor | None,
        x: tuple[float, int],
        out: tuple[Any, ...],
        geometry: tuple[Any, ...],
        residual: tuple[float, int] = (1.0, 0),
    ) -> None:
        super().__init__(weight, scales, bias, x, out)
        self.stride = list(geometry[0])
        self.padding = list(geometry[1])
        self.dilation = list(geometry[2])
        self.groups = int(geometry[3])
        self.other_scale, self.other_zero = residual

    def weight_for(self, x: Tensor) -> Tensor:
        size = x.size()[2:]
        packed = self.packed
        if packed is None or self.size != size:
            packed = torch.ops.onednn.qconv_prepack(
                self.weight, self.scales, self.x_scale, self.x_zero, self.stride, self.padding, self.dilation,
                self.groups, x.size(),
            )  # fmt: skip
            self.packed, self.size = packed, size
        return packed

    def forward(self, x: Tensor, residual: Optional[Tensor]) -> Tensor:
        packed = self.weight_for(x)
        scalars = torch.jit.annotate(List[Optional[Union[int, float, complex]]], [])
        for scalar in self.scalars:
            scalars.append(scalar)
        dtype = torch.uint8 if self.integers else torch.float32
        if residual is not None:
            return torch.ops.onednn.qconv2d_pointwise(
                x, self.x_scale, self.x_zero, packed, self.scales, self.zeros, residual, self.bias, self.stride,
                self.padding, self.dilation, self.groups, self.out_scale, self.out_zero, dtype, self.other_scale,
                self.other_zero, "sum", 1.0, self.post_op, scalars, self.algorithm,
            )  # fmt: skip
        return torch.ops.onednn.qconv_pointwise(
            x, self.x_scale, self.x_zero, packed, self.scales, self.zeros, self.bias, self.stride, self.padding,
            self.dilation, self.groups, self.out_scale, self.out_zero, dtype, self.post_op, scalars, self.algorithm,
        )  # fmt: skip


class ScriptedLinear(ScriptedKernel):
    """A linear layer."""

    def weight_for(self) -> Tensor:
        packed = self.packed
        if packed is None:
            packed = torch.ops.onednn.qlinear_prepack(self.weight, None)
            self.packed = packed
        return packed

    def forward(self, x: Tensor) -> Tensor:
        scalars = torch.jit.annotate(List[Optional[Union[int, float, complex]]], [])
        for scalar in self.scalars:
            scalars.append(scalar)
        dtype = torch.uint8 if self.integers else torch.float32
        return torch.ops.onednn.qlinear_pointwise(
            x, self.x_scale, self.x_zero, self.weight_for(), self.scales, self.zeros, self.bias, self.out_scale,
            self.out_zero, dtype, self.post_op, scalars, self.algorithm,
        )  # fmt: skip


class ReadyConv(ScriptedConv):
    """A convolution whose weight is packed already: for images of one size, in this process."""

    def weight_for(self, x: Tensor) -> Tensor:
        ready = self.ready
        assert ready is not None
        return ready


class ReadyLinear(ScriptedLinear):
    """A linear layer whose weight is packed already: in this process."""

    def weight_for(self) -> Tensor:
        ready = self.ready
        assert ready is not None
        return ready


class ReadyFloatConv(nn.Module):
    """A float convolution with its activation, perhaps a residual, and a packed weight."""

    scalars: List[float]
    bias: Optional[Tensor]
    ready: Optional[Tensor]

    def __init__(self, bias: Tensor | None, geometry: tuple[Any, ...], activation: tuple[str, List[float]]) -> None:
        super().__init__()
        self.ready = None
        self.register_buffer("bias", bias)
        self.stride, self.padding, self.dilation = list(geometry[0]), list(geometry[1]), list(geometry[2])
        self.groups = int(geometry[3])
        self.name, self.scalars = activation[0], [float(v) for v in activation[1]]

    def forward(self, x: Tensor, residual: Optional[Tensor]) -> Tensor:
        ready = self.ready
        assert ready is not None
        scalars = torch.jit.annotate(List[Optional[Union[int, float, complex]]], [])
        if residual is not None:
            return torch.ops.mkldnn._convolution_pointwise(
                x, residual, ready, self.bias, self.padding, self.stride, self.dilation, self.groups, "add", 1.0,
                "relu" if self.name == "relu" else None, scalars, "",
            )  # fmt: skip
        for scalar in self.scalars:
            scalars.append(scalar)
        return torch.ops.mkldnn._convolution_pointwise(
            x, ready, self.bias, self.padding, self.stride, self.dilation, self.groups, self.name, scalars, "",
        )  # fmt: skip


class SizeGuard(nn.Module):
    """Lets inputs of one size pass, in batches of any."""

    def __init__(self, size: List[int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if x.size()[1:] != self.size:
            raise RuntimeError(f"this model was traced for inputs of size {self.size} behind the batch, not {x.size()}")
        return x
