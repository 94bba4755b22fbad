"""Operations that the exporter does not know, spelled with others that it knows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_ptq.engine.export.replaced import replace_layer
from pytest_ptq.engine.export.windows import adaptive_average, adaptive_maximum
from pytest_ptq.engine.graph import StageModule, call_nodes, layer_of
from pytest_ptq.engine.transposed import Interleave


class FloatInterleave(nn.Module):
    """`Interleave`, with sizes that are constants; only the number of images is free."""

    def __init__(self, layer: Interleave) -> None:
        super().__init__()
        self.layer = [layer]

    def forward(self, x: Tensor) -> Tensor:
        i = self.layer[0]
        dims, size = len(i.stride), [int(n) for n in x.shape[2:]]
        channels = int(x.shape[1])
        for s in i.stride:
            channels //= s
        x = x.reshape(-1, i.groups, *i.stride, channels // i.groups, *size)
        places = [n for d in range(dims) for n in (3 + dims + d, 2 + d)]
        x = x.permute(0, 1, 2 + dims, *places).reshape(
            -1, channels, *(n * s for n, s in zip(size, i.stride, strict=True))
        )
        for d, (start, end) in enumerate(zip(i.before, i.after, strict=True)):
            x = x.narrow(2 + d, start, int(x.shape[2 + d]) - start - end)
        return x


class ChannelShuffle(nn.Module):
    def __init__(self, layer: nn.ChannelShuffle) -> None:
        super().__init__()
        self.groups = layer.groups

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(x, self.groups)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """(N, groups * C, ...) -> (N, C * groups, ...): the channels of all groups in turn."""
    channels, *size = (int(n) for n in x.shape[1:])
    return x.reshape(-1, groups, channels // groups, *size).transpose(1, 2).reshape(-1, channels, *size)


def softsign(x: Tensor) -> Tensor:
    return x / (1 + x.abs())


class _Softsign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return softsign(x)


class Adaptive(nn.Module):
    """Pooling to a given size."""

    def __init__(self, pool: Callable[..., Tensor], dims: int, layer: Any) -> None:
        super().__init__()
        self.pool, self.dims, self.output_size = pool, dims, layer.output_size

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, self.output_size, self.dims)


def _adaptive(pool: Callable[..., Tensor], dims: int) -> tuple[Callable[[Any], nn.Module], Callable[..., Tensor]]:
    """In the place of a layer, and of a function."""
    return functools.partial(Adaptive, pool, dims), lambda input, output_size, **no: pool(input, output_size, dims)


_ADAPTIVE = {
    (nn.AdaptiveAvgPool1d, F.adaptive_avg_pool1d): _adaptive(adaptive_average, 1),
    (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d): _adaptive(adaptive_average, 2),
    (nn.AdaptiveAvgPool3d, F.adaptive_avg_pool3d): _adaptive(adaptive_average, 3),
    (nn.AdaptiveMaxPool1d, F.adaptive_max_pool1d): _adaptive(adaptive_maximum, 1),
    (nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d): _adaptive(adaptive_maximum, 2),
    (nn.AdaptiveMaxPool3d, F.adaptive_max_pool3d): _adaptive(adaptive_maximum, 3),
}
LAYERS: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    Interleave: FloatInterleave,
    nn.ChannelShuffle: ChannelShuffle,
    nn.Softsign: lambda layer: _Softsign(),
    **{known[0]: made[0] for known, made in _ADAPTIVE.items()},
}
FUNCTIONS: Mapping[Any, Callable[..., Tensor]] = {
    F.channel_shuffle: channel_shuffle,
    F.softsign: softsign,
    torch.swapaxes: torch.transpose,
    **{known[1]: made[1] for known, made in _ADAPTIVE.items()},
}
METHODS: Mapping[str, str] = {"swapaxes": "transpose"}


def spell_out(twin: StageModule) -> None:
    """Replace what the exporter does not know, in place."""
    for node in call_nodes(twin):
        layer = layer_of(twin, node)
        if node.kwargs.get("return_indices") or getattr(layer, "return_indices", False) or True in node.args:
            continue
        if layer is not None and type(layer) in LAYERS:
            replace_layer(twin, str(node.target), LAYERS[type(layer)](layer))
        elif node.op == "call_function" and node.target in FUNCTIONS:
            node.target = FUNCTIONS[node.target]
        elif node.op == "call_method":
            node.target = METHODS.get(str(node.target), str(node.target))
