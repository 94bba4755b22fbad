"""Int8 pooling over sequences, images and volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_ptq.engine import kernels
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.modules.borders import Int8Layer, IntegerLayer

_AVERAGE: Mapping[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_ADAPTIVE: Mapping[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d,
}  # fmt: skip
_ADAPTIVE_MAX: Mapping[int, Callable[..., Tensor]] = {
    1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d,
}  # fmt: skip


class QuantizedMean(Int8Layer):
    """Mean over some dimensions; over height and width it is global average pooling."""

    def __init__(self, x: QParams, out: QParams | None, keepdim: bool, dims: Sequence[int] = (-2, -1)) -> None:
        super().__init__()
        self.x, self.out, self.keepdim, self.dims = x, out, keepdim, tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        return kernels.mean(x, self.x, self.out, self.keepdim, self.dims)

    def extra_repr(self) -> str:
        return f"dims={self.dims}, keepdim={self.keepdim}{self._quantization()}"


class _AvgPool(Int8Layer):
    """Averages of stored integers, in fp32 registers: sums of at most 2^24 are exact there."""

    dims = 2

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
        self.kernel_size, self.stride = _each(kernel_size, self.dims), _each(stride or kernel_size, self.dims)
        self.padding, self.ceil_mode = _each(padding, self.dims), ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def _average(self, x: Tensor) -> Tensor:
        more = () if self.dims == 1 else (self.divisor_override,)
        return _AVERAGE[self.dims](
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, *more
        )

    def extra_repr(self) -> str:
        shape = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{shape}{self._quantization()}"


class QuantizedAvgPool1d(QuantizedAvgPool2d):
    dims = 1


class QuantizedAvgPool3d(QuantizedAvgPool2d):
    dims = 3


class QuantizedAdaptiveAvgPool2d(_AvgPool):
    """Average pooling to a given size."""

    def __init__(self, x: QParams, out: QParams | None, output_size: Any) -> None:
        super().__init__(x, out)
        self.output_size = output_size

    def _average(self, x: Tensor) -> Tensor:
        return _ADAPTIVE[self.dims](x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}{self._quantization()}"


class QuantizedAdaptiveAvgPool1d(QuantizedAdaptiveAvgPool2d):
    dims = 1


class QuantizedAdaptiveAvgPool3d(QuantizedAdaptiveAvgPool2d):
    dims = 3


class QuantizedMaxPool2d(IntegerLayer):
    """Max pooling on stored integers: order is kept by quantization, so it is exact."""

    dims = 2

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> None:
        super().__init__()
        self.kernel_size, self.stride = _each(kernel_size, self.dims), _each(stride or kernel_size, self.dims)
        self.padding, self.dilation = _each(padding, self.dims), _each(dilation, self.dims)
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return kernels.max_pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class QuantizedMaxPool1d(QuantizedMaxPool2d):
    dims = 1


class QuantizedMaxPool3d(QuantizedMaxPool2d):
    dims = 3


class QuantizedAdaptiveMaxPool2d(IntegerLayer):
    """Max pooling to a given size. Integers up to 255 are exact in fp32, in which torch's kernel works."""

    dims = 2

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return _ADAPTIVE_MAX[self.dims](x.float(), self.output_size).to(torch.uint8)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class QuantizedAdaptiveMaxPool1d(QuantizedAdaptiveMaxPool2d):
    dims = 1


class QuantizedAdaptiveMaxPool3d(QuantizedAdaptiveMaxPool2d):
    dims = 3


def _each(value: Any, dims: int) -> tuple[int, ...]:
    """A number for each dimension. One alone stands for all of them."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return tuple(int(v) for v in (values * dims if len(values) == 1 else values))
