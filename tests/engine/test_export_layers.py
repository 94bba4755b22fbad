"""Every kind of int8 layer in an exported file: within one step of torch's, and by int8 kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.exported import check
from engine.nets import Net, conv, images, randomize
from pytest_ptq.qconfig import QConfig


def between(compute: Any, **layers: nn.Module) -> Net:
    """conv -> an operation -> conv."""
    return Net(lambda m, x: m.b(compute(m, m.a(x))), a=conv(3, 8), b=conv(8, 4), **layers)


CASES: dict[str, tuple[Net, dict[str, int], dict[str, int]]] = {
    "conv": (between(lambda m, y: y), {"QLinearConv": 1}, {"Convolution.u8": 2}),
    "relu": (between(lambda m, y: F.relu(y)), {"QLinearConv": 1}, {"Convolution.u8": 2}),
    "relu6": (between(lambda m, y: F.relu6(m.c(y)), c=conv(8, 8)), {"QLinearConv": 2}, {"Convolution.u8": 3}),
    "max pool": (between(lambda m, y: F.max_pool2d(y, 3, 2, 1)), {"NhwcMaxPool": 1}, {"Pooling.u8": 1}),
    "avg pool": (between(lambda m, y: F.avg_pool2d(y, 3, 2, 1)), {"QLinearAveragePool": 1}, {}),
    "avg pool without padding": (
        between(lambda m, y: F.avg_pool2d(y, 3, 2, 1, count_include_pad=False)),
        {"QLinearAveragePool": 1}, {"Pooling.u8": 1},
    ),
    "avg pool, cut off": (between(lambda m, y: F.avg_pool2d(y, 3, 2, 1, ceil_mode=True)), {}, {}),
    "avg pool, cut off, without padding": (
        between(lambda m, y: F.avg_pool2d(y, 3, 4, 1, ceil_mode=True, count_include_pad=False)), {}, {},
    ),
    "avg pool, divided": (between(lambda m, y: F.avg_pool2d(y, 3, 2, 1, True, divisor_override=5)), {}, {}),
    "add": (between(lambda m, y: F.relu(m.c(y)) + F.relu(y), c=conv(8, 8)), {"QLinearAdd": 1}, {}),
    "mul": (between(lambda m, y: y * F.hardsigmoid(m.c(y)), c=conv(8, 8)), {"QLinearMul": 1}, {}),
    "sub": (between(lambda m, y: F.relu(m.c(y)) - F.relu(y), c=conv(8, 8)), {}, {}),
    "cat": (
        between(lambda m, y: m.d(torch.cat([y, F.relu(m.c(y))], 1)), c=conv(8, 8), d=conv(16, 8)),
        {"QLinearConcat": 1}, {"Concatenation.u8": 1},
    ),
    "stack": (between(lambda m, y: torch.stack([y, F.relu(m.c(y))], 1).flatten(1, 2)[:, 4:12], c=conv(8, 8)), {}, {}),
    "maximum": (between(lambda m, y: torch.maximum(y, m.c(y)), c=conv(8, 8)), {}, {}),
    "minimum": (between(lambda m, y: torch.minimum(y, m.c(y)), c=conv(8, 8)), {}, {}),
    "pad": (between(lambda m, y: F.pad(y, (0, 1, 0, 1))), {"Pad": 0}, {"Pad.u8": 0}),
    "pad of what is pooled": (between(lambda m, y: F.max_pool2d(F.pad(F.relu(y), (0, 1, 0, 1)), 3)), {}, {}),
    "clamp": (between(lambda m, y: F.relu(F.max_pool2d(y, 2))), {"Clip": 1}, {}),
    "channel shuffle": (between(lambda m, y: F.channel_shuffle(y, 2)), {"Transpose": 3}, {"ShuffleChannels.u8": 1}),
    "chunk": (between(lambda m, y: torch.cat(torch.chunk(y, 2, 1)[::-1], 1)), {"Slice": 0, "Shape": 0}, {}),
    "mean": (between(lambda m, y: y + y.mean((2, 3), keepdim=True)), {"QLinearGlobalAveragePool": 1}, {"Reduce.u8": 1}),
    "mean of one dimension": (between(lambda m, y: y + y.mean(1, keepdim=True)), {}, {}),
    "adaptive": (between(lambda m, y: F.adaptive_avg_pool2d(y, 4)), {"QLinearAveragePool": 1}, {"Pooling.u8": 1}),
    "adaptive, uneven": (between(lambda m, y: F.adaptive_avg_pool2d(y, (5, 7))), {}, {}),
    "adaptive maximum": (between(lambda m, y: F.adaptive_max_pool2d(y, (5, 4))), {}, {}),
    "nearest": (between(lambda m, y: F.interpolate(y, scale_factor=2)), {}, {}),
    "pixel shuffle": (between(lambda m, y: m.c(F.pixel_shuffle(y, 2)), c=conv(2, 8)), {}, {}),
    "transposed": (between(lambda m, y: m.t(y), t=nn.ConvTranspose2d(8, 8, 3, 2, 1, 1)), {"QLinearConv": 2}, {}),
    "batch norm": (between(lambda m, y: m.n(F.max_pool2d(y, 2)), n=nn.BatchNorm2d(8)), {"QLinearConv": 2}, {}),
    "depthwise": (between(lambda m, y: F.relu(m.c(y)), c=conv(8, 8, groups=8)), {"QLinearConv": 2}, {}),
    "sigmoid": (between(lambda m, y: torch.sigmoid(F.max_pool2d(y, 2))), {"QLinearSigmoid": 1}, {}),
    "times a constant": (between(lambda m, y: F.max_pool2d(y, 2) * 0.7), {}, {}),
    "plus a constant": (between(lambda m, y: F.max_pool2d(y, 2) + 0.3), {}, {}),
    "elu": (between(lambda m, y: F.elu(F.max_pool2d(y, 2))), {}, {}),
    "clamp between": (between(lambda m, y: F.max_pool2d(y, 2).clamp(-0.3, 0.4)), {}, {}),
    "prelu": (between(lambda m, y: m.p(y), p=nn.PReLU(8)), {}, {}),
    "roll": (between(lambda m, y: torch.roll(y, 3, 2)), {}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_layer(name: str, tmp_path: Path) -> None:
    net, in_onnxruntime, in_openvino = CASES[name]
    found = check(net, images(3), tmp_path)
    assert {k: found["onnxruntime"][k] for k in in_onnxruntime} == in_onnxruntime
    assert {k: found["openvino"][k] for k in in_openvino} == in_openvino


ACTIVATIONS = {
    "hardswish": F.hardswish, "silu": F.silu, "gelu": F.gelu, "tanh": torch.tanh, "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid,
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_behind_a_convolution(name: str, tmp_path: Path) -> None:
    """In OpenVINO it is computed before the one rounding. ONNX Runtime's convolution rounds before it."""
    net = between(lambda m, y: ACTIVATIONS[name](3 * y))
    with torch.no_grad():
        net.a.weight.mul_(3)
    found = check(net, images(3), tmp_path, ["openvino"])
    assert found["openvino"]["Convolution.u8"] == 2
    found = check(net, images(3), tmp_path, ["onnxruntime"], steps=1 if name == "hardsigmoid" else 2)
    assert found["onnxruntime"]["QLinearConv"] == 1


def test_hardswish_is_a_product_of_integers_in_onnxruntime(tmp_path: Path) -> None:
    found = check(between(lambda m, y: F.hardswish(y)), images(3), tmp_path, ["onnxruntime"], steps=2)["onnxruntime"]
    assert (found["QLinearMul"], found["HardSigmoid"], found["HardSwish"], found["Mul"]) == (1, 0, 0, 0)


def sequences(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


OTHERS: dict[str, tuple[nn.Module, Tensor]] = {
    "conv1d": (nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 1)), sequences(3, 3, 20)),
    "conv3d": (
        nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(4, 4, 1)),
        sequences(2, 2, 6, 6, 6),
    ),
    "linear": (nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)), sequences(4, 16)),
    "linear over sequences": (nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 4)), sequences(4, 5, 16)),
    "norm of vectors": (
        nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 4)), sequences(4, 16),
    ),
    "norm of sequences": (
        nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.BatchNorm1d(8), nn.Conv1d(8, 4, 1)), sequences(3, 3, 20),
    ),
    "transposed, over sequences": (
        nn.Sequential(nn.Conv1d(3, 8, 3), nn.ConvTranspose1d(8, 4, 4, 2, 1), nn.Conv1d(4, 4, 1)), sequences(3, 3, 20),
    ),
    "classifier": (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
        images(3),
    ),
}  # fmt: skip
KERNELS = {
    "conv1d": {"QLinearConv": 1}, "conv3d": {"QLinearConv": 1}, "linear": {"QGemm": 2},
    "linear over sequences": {"QGemm": 2}, "classifier": {"QLinearConv": 1, "QGemm": 1, "QLinearGlobalAveragePool": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_dimensions(name: str, tmp_path: Path) -> None:
    net, x = OTHERS[name]
    found = check(randomize(net), x, tmp_path)["onnxruntime"]
    assert {kind: found[kind] for kind in KERNELS.get(name, {})} == KERNELS.get(name, {})


@pytest.mark.parametrize(
    "qconfig",
    [
        QConfig("narrow", reduce_range=True), QConfig("symmetric", activation_scheme="symmetric"),
        QConfig("tensor", weight_granularity="per_tensor"), QConfig("equalized", equalization=True),
    ],
    ids=lambda q: q.name,
)  # fmt: skip
def test_a_qconfig(qconfig: QConfig, tmp_path: Path) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.relu6(m.a(x))
        y = m.c(F.relu6(m.b(y))) + y
        return m.d(torch.cat([y, F.relu(m.c(y))], 1))

    net = Net(compute, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), d=conv(16, 4))
    check(net, images(3), tmp_path, ["openvino"], qconfig=qconfig)
    check(net, images(3), tmp_path, ["onnxruntime"], qconfig=qconfig, steps=2, batches=[images(3)])
