"""Means of a layer's outputs from sums of its inputs: what the layer itself computes, averaged in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.blocks import Block, Conv1dBlock, Conv3dBlock, ConvBlock, FlatNormBlock, LinearBlock
from pytest_ptq.engine.correct.means import OutputMean
from pytest_ptq.engine.modules import QuantizedConv2d, QuantizedLinear

Geometry = dict[str, Any]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def integers(seed: int, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    pair = lambda low, high: tuple(draw(st.integers(low, high)) for _ in "hw")  # noqa: E731
    groups = draw(st.sampled_from([1, 2, 4]))
    found = {"kernel": pair(1, 4), "stride": pair(1, 3), "padding": pair(0, 2), "dilation": pair(1, 2)}
    reach = [
        d * (k - 1) + 1 - 2 * p for d, k, p in zip(found["dilation"], found["kernel"], found["padding"], strict=True)
    ]
    size = tuple(max(1, r) + draw(st.integers(0, 6)) for r in reach)
    return {**found, "groups": groups, "size": size, "seed": draw(st.integers(0, 99)), "adds": draw(st.booleans())}


def mean_of(y: Tensor) -> Tensor:
    """Over all dimensions but the second."""
    return y.double().transpose(0, 1).flatten(1).mean(1)


def check(mean: OutputMean, expected: Tensor) -> None:
    torch.testing.assert_close(mean.value(), expected, atol=2e-5, rtol=2e-5)


@given(geometries())
@settings(max_examples=60, deadline=None)
def test_float_convolutions(g: Geometry) -> None:
    weight = drawn(g["seed"], 8, 8 // g["groups"], *g["kernel"])
    block = ConvBlock(weight, drawn(1, 8), g["stride"], g["padding"], g["dilation"], g["groups"], "relu", g["adds"])
    mean, outputs = OutputMean(block), []
    for number, count in enumerate((2, 1)):
        x = drawn(number, count, 8, *g["size"]).contiguous(memory_format=torch.channels_last)
        others = [drawn(7, count, *block._compute(x).shape[1:])] if g["adds"] else []
        outputs.append(block.before_activation(x, *others))
        mean.add(x, *others)
    check(mean, mean_of(torch.cat(outputs)))


@given(geometries(), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_int8_convolutions_read_integers_and_pad_with_the_zero_point(g: Geometry, zero_point: int) -> None:
    weight = integers(g["seed"], -127, 128, 8, 8 // g["groups"], *g["kernel"]).to(torch.int8)
    scales, bias, x_q, added_q = drawn(3, 8).abs() / 99, drawn(4, 8), QParams(0.03, zero_point), QParams(0.05, 7)
    layer = QuantizedConv2d(
        weight, scales, bias, "relu", x_q, QParams(0.1, 3), g["stride"], g["padding"], g["dilation"], g["groups"],
        added_q if g["adds"] else None,
    )  # fmt: skip
    mean, outputs = OutputMean(layer), []
    for number, count in enumerate((2, 1)):
        x = integers(number, 0, 256, count, 8, *g["size"]).byte().contiguous(memory_format=torch.channels_last)
        geometry = (g["stride"], g["padding"], g["dilation"], g["groups"])
        sums = torch.conv2d(x.double() - zero_point, weight.double(), None, *geometry)
        y = sums * (scales.double() * x_q.scale).view(-1, 1, 1) + bias.view(-1, 1, 1)
        others = [integers(9, 0, 256, *y.shape).byte()] if g["adds"] else []
        outputs.append(y + sum((other.double() - 7) * 0.05 for other in others))
        mean.add(x, *others)
    check(mean, mean_of(torch.cat(outputs)))


@pytest.mark.parametrize("shape", [(2, 6), (2, 5, 6), (2, 3, 5, 6)])
def test_linear_layers_over_rows_of_any_shape(shape: tuple[int, ...]) -> None:
    block, x = LinearBlock(drawn(0, 4, 6), drawn(1, 4)), drawn(2, *shape)
    mean = OutputMean(block)
    mean.add(x)
    check(mean, block(x).double().reshape(-1, 4).mean(0))
    stored, q = integers(3, 0, 256, *shape).byte(), QParams(0.02, 131)
    int8 = QuantizedLinear(integers(4, -127, 128, 4, 6).to(torch.int8), drawn(5, 4).abs(), None, "none", q, None)
    mean = OutputMean(int8)
    mean.add(stored)
    check(mean, ((stored.double() - 131) * 0.02 @ (int8.weight.double().T * int8.scales)).reshape(-1, 4).mean(0))


def other_blocks() -> dict[str, tuple[Block, Tensor]]:
    flat = FlatNormBlock(drawn(0, 6, 1, 1, 1), drawn(1, 6), (1, 1), (0, 0), (1, 1), 6)
    sequence = Conv1dBlock(drawn(2, 8, 3, 1, 3), None, (1, 2), (0, 1), (1, 1), 2)
    return {
        "sequence": (sequence, drawn(3, 4, 6, 9)),
        "norm of vectors": (flat, drawn(4, 5, 6)),
        "norm of volumes": (flat, drawn(5, 2, 6, 3, 4, 5)),
        "volume": (
            Conv3dBlock(drawn(6, 4, 6, 2, 3, 1), None, (1, 2, 1), (1, 1, 0), (1, 1, 1), 1),
            drawn(7, 2, 6, 4, 5, 6),
        ),
    }


@pytest.mark.parametrize("name", list(other_blocks()))
def test_convolutions_over_other_shapes(name: str) -> None:
    block, x = other_blocks()[name]
    mean = OutputMean(block)
    mean.add(x)
    check(mean, mean_of(block(x)))


def test_a_residual_that_broadcasts_counts_at_every_position() -> None:
    block = ConvBlock(drawn(0, 4, 3, 1, 1), None, (1, 1), (0, 0), (1, 1), 1, adds=True)
    x = drawn(1, 2, 3, 5, 6)
    for residual in (drawn(2, 1, 4, 1, 1), drawn(3, 4, 1, 1), drawn(4, 2, 4, 5, 1), drawn(5, 1)):
        mean = OutputMean(block)
        mean.add(x, residual)
        check(mean, mean_of(block(x, residual)))
