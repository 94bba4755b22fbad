"""Activation functions that a convolution or a linear layer takes into its own kernel.

In int8 most of them cost nothing. ReLU is a zero point of 0 and the kernel's own saturation; ReLU6 is the same with a
scale at which the largest integer is 6; hardsigmoid(x) = clamp(x / 6 + 1 / 2, 0, 1) is that again, with the
division and the shift taken into the weights' scales and the bias.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """One row of the table.

    Args:
        name: canonical name.
        title: how it reads in a fused layer's name (`ConvReLU2d`); ReLU6 is a ReLU whose scale ends at 6.
        function: the float function.
        gain, shift: applied to the layer's output before the post-op: taken into weight scales and bias.
        post_op: name, scalars and algorithm of oneDNN's post-op, applied after gain and shift. A kernel that has no
            such post-op leaves the activation to fp32 arithmetic behind it.
        ceiling: upper end of the output, which a scale must not reach beyond; None when unbounded.
        saturates: with zero point 0, saturation alone does what the post-op does.
        after_add: the kernels compute it also after adding a residual.
    """

    name: str
    title: str
    function: Callable[[Tensor], Tensor]
    gain: float = 1.0
    shift: float = 0.0
    post_op: tuple[str, tuple[float, ...], str] = ("none", (), "")
    ceiling: float | None = None
    saturates: bool = False
    after_add: bool = False


def _identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: Mapping[str, Activation] = {
    a.name: a
    for a in (
        Activation("none", "", _identity, saturates=True, after_add=True),
        Activation("relu", "ReLU", F.relu, post_op=("relu", (), ""), saturates=True, after_add=True),
        Activation("relu6", "ReLU", F.relu6, post_op=("hardtanh", (0.0, 6.0), ""), ceiling=6.0, saturates=True),
        Activation("hardswish", "Hardswish", F.hardswish, post_op=("hardswish", (), "")),
        Activation(
            "hardsigmoid", "Hardsigmoid", F.hardsigmoid, gain=1 / 6, shift=0.5,
            post_op=("hardtanh", (0.0, 1.0), ""), ceiling=1.0, saturates=True,
        ),
        Activation("silu", "SiLU", F.silu, post_op=("swish", (), "")),
        Activation("gelu", "GELU", F.gelu, post_op=("gelu", (), "none")),
        Activation("gelu_tanh", "GELU", functools.partial(F.gelu, approximate="tanh"), post_op=("gelu", (), "tanh")),
        Activation("sigmoid", "Sigmoid", torch.sigmoid, post_op=("sigmoid", (), ""), ceiling=1.0),
        Activation("tanh", "Tanh", torch.tanh, post_op=("tanh", (), ""), ceiling=1.0),
        Activation("leaky_relu", "LeakyReLU", F.leaky_relu, post_op=("leaky_relu", (0.01,), "")),
    )
}  # fmt: skip
