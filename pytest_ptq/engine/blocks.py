"""Float layers after fusion: a convolution or linear layer with everything that will run in its kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.errors import CaptureError

Pair = tuple[int, int]
Triple = tuple[int, int, int]


class Block(nn.Module):
    """What ConvBlock and LinearBlock share: weight, bias, an activation, perhaps a residual."""

    weight: Tensor
    bias: Tensor | None
    ceilings: Tensor | None
    """What each output channel is cut off at: a ReLU6 whose channels have been scaled apart."""
    prefix = "Block"
    suffix = ""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        activation: str = "none",
        adds: bool = False,
        ceilings: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.register_buffer("ceilings", ceilings)
        self.activation, self.adds = activation, adds

    def _get_name(self) -> str:
        return f"{self.prefix}{'Add' if self.adds else ''}{ACTIVATIONS[self.activation].title}{self.suffix}"

    def _compute(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def before_activation(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self._compute(x)
        return y if residual is None else y + residual

    def activate(self, y: Tensor) -> Tensor:
        y = ACTIVATIONS[self.activation].function(y)
        return y if self.ceilings is None else torch.minimum(y, channels_of(self.ceilings, self.weight))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.activate(self.before_activation(x, residual))


class ConvBlock(Block):
    """2-d convolution with folded batch norm, an activation and perhaps a residual added before it."""

    prefix, suffix = "Conv", "2d"

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
        activation: str = "none",
        adds: bool = False,
        ceilings: Tensor | None = None,
    ) -> None:
        super().__init__(weight, bias, activation, adds, ceilings)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def _compute(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return describe_conv(self.weight, self.stride, self.padding, self.dilation, self.groups)


class Conv1dBlock(ConvBlock):
    """A convolution over sequences (N, C, L): over images one pixel high."""

    suffix = "1d"

    def before_activation(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self._compute(x.unsqueeze(2)).squeeze(2)
        return y if residual is None else y + residual


class Conv3dBlock(Block):
    """A convolution over volumes (N, C, D, H, W), with folded batch norm and an activation."""

    prefix, suffix = "Conv", "3d"

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: Triple,
        padding: Triple,
        dilation: Triple,
        groups: int,
        activation: str = "none",
    ) -> None:
        super().__init__(weight, bias, activation)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def _compute(self, x: Tensor) -> Tensor:
        return F.conv3d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return describe_conv(self.weight, self.stride, self.padding, self.dilation, self.groups)


class NormBlock(ConvBlock):
    """A batch norm that stands alone: a 1 x 1 convolution of each channel by itself."""

    prefix = "BatchNorm"


class FlatNormBlock(NormBlock):
    """A batch norm over vectors, sequences or volumes (N, C, ...): over images one pixel wide."""

    def _compute(self, x: Tensor) -> Tensor:
        return super()._compute(x.reshape(*x.shape[:2], -1, 1)).reshape(x.shape)


class LinearBlock(Block):
    """Linear layer with an activation; `flat` when a batch norm was folded in, which means (N, C) only."""

    prefix = "Linear"

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        activation: str = "none",
        adds: bool = False,
        flat: bool = False,
    ) -> None:
        super().__init__(weight, bias, activation, adds)
        self.flat = flat

    def _compute(self, x: Tensor) -> Tensor:
        if self.flat and x.ndim != 2:
            raise CaptureError(
                f"a batch norm behind a linear layer normalises dimension 1, which of shape {tuple(x.shape)} are not "
                "its outputs",
                remedy="Give it (N, C), or use nn.LayerNorm.",
            )
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.weight.shape[1]}, out_features={self.weight.shape[0]}"


def channels_of(values: Tensor, weight: Tensor) -> Tensor:
    """One value an output channel, shaped to meet the output of a layer with that weight."""
    return values.view(-1, *[1] * (weight.ndim - 2))


def describe_conv(
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    quantization: str = "",
) -> str:
    """Arguments of a convolution as torch prints them: `32, 64, kernel_size=(3, 3), stride=(1, 1), ...`."""
    kernel = tuple(weight.shape[2:])
    text = f"{weight.shape[1] * groups}, {weight.shape[0]}, kernel_size={kernel}, stride={stride}{quantization}"
    for name, value, usual in (("padding", padding, {0}), ("dilation", dilation, {1}), ("groups", (groups,), {1})):
        if set(value) != usual:
            text += f", {name}={value if name != 'groups' else groups}"
    return text


def conv_output_shape(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> tuple[int, ...]:
    """Shape (N, K, H', W') of a convolution's output."""
    n, _, height, width = x.shape
    k, _, r, s = weight.shape
    down = (height + 2 * padding[0] - dilation[0] * (r - 1) - 1) // stride[0] + 1
    across = (width + 2 * padding[1] - dilation[1] * (s - 1) - 1) // stride[1] + 1
    return n, k, down, across


def has_symmetric_padding(conv: nn.modules.conv._ConvNd) -> bool:
    """False for padding="same" that needs one more row or column after the image than before it."""
    kernel = conv.weight.shape[2:]
    return conv.padding != "same" or all(d * (k - 1) % 2 == 0 for k, d in zip(kernel, conv.dilation, strict=True))


def conv_block(conv: nn.modules.conv._ConvNd) -> ConvBlock | Conv3dBlock:
    """A block that computes what a convolution of one, two or three dimensions does, with padding in numbers."""
    shape: list[Any] = [tuple(conv.stride), tuple(_padding(conv)), tuple(conv.dilation)]
    weight, kind = conv.weight, ConvBlock
    if isinstance(conv, nn.Conv3d):
        return Conv3dBlock(weight, conv.bias, shape[0], shape[1], shape[2], conv.groups)
    if isinstance(conv, nn.Conv1d):
        weight, kind = weight.unsqueeze(2), Conv1dBlock
        shape = [(usual, *given) for usual, given in zip((1, 0, 1), shape, strict=True)]
    return kind(weight, conv.bias, shape[0], shape[1], shape[2], conv.groups)


def _padding(conv: nn.modules.conv._ConvNd) -> Sequence[int]:
    if conv.padding == "same":
        return tuple(d * (k - 1) // 2 for k, d in zip(conv.weight.shape[2:], conv.dilation, strict=True))
    return (0,) * (conv.weight.ndim - 2) if isinstance(conv.padding, str) else conv.padding


def norm_block(norm: nn.modules.batchnorm._BatchNorm) -> NormBlock:
    """A block that computes what `norm` does in eval mode, with running statistics."""
    weight = torch.ones(norm.num_features, 1, 1, 1, dtype=torch.float32)
    kind = NormBlock if isinstance(norm, nn.BatchNorm2d) else FlatNormBlock
    block = kind(weight, None, (1, 1), (0, 0), (1, 1), norm.num_features)
    fold_batch_norm(block, norm)
    return block


def fold_batch_norm(block: Block, norm: nn.modules.batchnorm._BatchNorm, features: Tensor | None = None) -> None:
    """Take a batch norm in eval mode into the block before it (Jacob et al., arXiv 1712.05877, section 3.2).

    features: which of its features stands for each channel of the block, where they are not the same.

    Computed in float64: the running variance of a dead channel can be tiny, and its reciprocal large.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch norm without running statistics")
    gain = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        gain = gain * norm.weight.detach().double()
    shift = -norm.running_mean.double() * gain
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    if features is not None:
        gain, shift = gain[features], shift[features]
    dtype = block.weight.dtype
    weight = block.weight.double() * gain.view(-1, *[1] * (block.weight.ndim - 1))
    block.bias = (shift if block.bias is None else block.bias.double() * gain + shift).to(dtype)
    block.weight = weight.to(dtype)
