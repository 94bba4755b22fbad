"""Int8 pooling."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pytest_ptq.engine import kernels
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.blocks import Pair
from pytest_ptq.engine.modules.borders import Int8Layer, IntegerLayer


class QuantizedMean(Int8Layer):
    """Mean over height and width (global average pooling)."""

    def __init__(self, x: QParams, out: QParams | None, keepdim: bool) -> None:
        super().__init__()
        self.x, self.out, self.keepdim = x, out, keepdim

    def forward(self, x: Tensor) -> Tensor:
        return kernels.mean(x, self.x, self.out, self.keepdim)

    def extra_repr(self) -> str:
        return f"keepdim={self.keepdim}{self._quantization()}"


class _AvgPool(Int8Layer):
    """Averages of stored integers, in fp32 registers: sums of at most 2^24 are exact there."""

    def __init__(self, x: QParams, out: QParams | None) -> None:
        super().__init__()
        self.x, self.out = x, out

    def _average(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        # Zero is subtracted first: what padding adds to a window is a real zero.
        y = self._average(x.float().sub_(self.x.zero_point)).mul_(self.x.scale)
        return y if self.out is None else kernels.quantize(y, self.out)


class QuantizedAvgPool2d(_AvgPool):
    """Average pooling over windows."""

    def __init__(
        self,
        x: QParams,
        out: QParams | None,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(x, out)
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride or kernel_size)
        self.padding, self.ceil_mode = _pair(padding), ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def _average(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        shape = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{shape}{self._quantization()}"


class QuantizedAdaptiveAvgPool2d(_AvgPool):
    """Average pooling to a given size."""

    def __init__(self, x: QParams, out: QParams | None, output_size: Any) -> None:
        super().__init__(x, out)
        self.output_size = output_size

    def _average(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}{self._quantization()}"


class QuantizedMaxPool2d(IntegerLayer):
    """Max pooling on stored integers: order is kept by quantization, so it is exact."""

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> None:
        super().__init__()
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride or kernel_size)
        self.padding, self.dilation, self.ceil_mode = _pair(padding), _pair(dilation), ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return kernels.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def _pair(value: Any) -> Pair:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return int(first), int(second)
