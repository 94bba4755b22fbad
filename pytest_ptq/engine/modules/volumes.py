"""Int8 convolutions over volumes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_ptq.engine import kernels
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.blocks import Triple, describe_conv
from pytest_ptq.engine.geometry import is_miscomputed, may_be_miscomputed
from pytest_ptq.engine.modules.weighted import QuantizedWeighted


class QuantizedConv3d(QuantizedWeighted):
    """Convolution over volumes in one int8 kernel. What its saturation does not do (a ReLU) follows in fp32."""

    prefix, suffix = "QuantizedConv", "3d"
    post_ops = frozenset({"none"})

    def __init__(
        self,
        weight: Tensor,
        scales: Tensor,
        bias: Tensor | None,
        activation: str,
        x: QParams,
        out: QParams | None,
        stride: Triple,
        padding: Triple,
        dilation: Triple,
        groups: int,
    ) -> None:
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        super().__init__(weight, scales, bias, activation, x, out)

    def _prepare(self) -> None:
        super()._prepare()
        self._geometry = (list(self.stride), list(self.padding), list(self.dilation), self.groups)
        self._packed = kernels.pack_conv(self.weight, self._call[2], self.x, *self._geometry)
        self._where = (self.weight.shape, self.stride, self.padding, self.dilation, self.x.zero_point)
        self._doubtful = may_be_miscomputed(*self._where)

    def forward(self, x: Tensor) -> Tensor:
        if self._doubtful and is_miscomputed(tuple(map(int, x.shape[2:])), *self._where):
            return self._finish(self._without_kernel(x))
        return self._bounded(self._run(x.contiguous(memory_format=torch.channels_last_3d), self._out))

    def _run(self, x: Tensor, out: tuple[Any, ...], residual: Tensor | None = None) -> Tensor:
        return kernels.conv2d(x, self._packed(x), self._call, self._bias, self._geometry, out)

    def _without_kernel(self, x: Tensor) -> Tensor:
        """In float64, where every sum of products of these integers is exact."""
        shifted, channels = x.double() - self.x.zero_point, (-1, 1, 1, 1)
        sums = F.conv3d(shifted, self.weight.double(), None, self.stride, self.padding, self.dilation, self.groups)
        y = sums * (self.scales.double() * self.x.scale).view(channels)
        return (y if self.bias is None else y + self.bias.double().view(channels)).float()

    def extra_repr(self) -> str:
        return describe_conv(self.weight, self.stride, self.padding, self.dilation, self.groups, self._quantization())
