"""Convolutions that oneDNN computes wrongly: they are known, and computed otherwise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision import models

from engine.nets import Net, conv, images, randomize, run, sqnr
from engine.test_kernels import Conv, assert_close, channels_last, convs, integers, output_range, real, reference
from pytest_ptq import engine
from pytest_ptq.engine import affine, modules
from pytest_ptq.engine.activations import ACTIVATIONS
from pytest_ptq.engine.affine import UINT8, QParams
from pytest_ptq.engine.blocks import ConvBlock
from pytest_ptq.engine.freeze import FrozenConv2d
from pytest_ptq.engine.geometry import is_miscomputed, may_be_miscomputed

PADDING_ONLY = {
    "1 x 1 with padding, depthwise": Conv((1, 1), (1, 1), (1, 0), (1, 1), 16, 16, 16, (5, 5), 1, True, False, True, 0),
    "1 x 2 with more padding": Conv((1, 2), (1, 1), (1, 0), (1, 1), 16, 16, 16, (8, 8), 2, False, False, True, 1),
    "taps around the image": Conv((1, 2), (1, 1), (1, 1), (1, 2), 1, 3, 8, (4, 1), 1, True, False, True, 2),
    "taps around the image, strided": Conv((1, 2), (1, 2), (1, 1), (2, 2), 1, 16, 16, (4, 1), 1, True, False, True, 3),
}
ONE_COLUMN = {
    "grouped": Conv((3, 3), (1, 2), (0, 0), (1, 1), 8, 8, 16, (4, 4), 2, True, False, True, 4),
    "grouped, stride 3": Conv((1, 3), (1, 3), (0, 1), (1, 1), 4, 4, 12, (4, 3), 2, True, False, True, 5),
    "grey images": Conv((2, 2), (1, 3), (0, 0), (2, 1), 1, 1, 4, (10, 3), 3, True, False, True, 6),
}
WRONG = {**PADDING_ONLY, **ONE_COLUMN}


def where(conv: Conv, zero_point: int) -> tuple[Any, ...]:
    return conv.weights()[0].shape, conv.stride, conv.padding, conv.dilation, zero_point


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("adds", [False, True])
def test_int8_is_right_where_the_kernel_is_wrong(name: str, adds: bool) -> None:
    found, x_q, residual_q = WRONG[name], QParams(0.02, 100), QParams(0.05, 9)
    assert is_miscomputed(found.size, *where(found, 100))
    x, expected = found.images(), reference(found, found.images(), x_q)
    residual = integers(*expected.shape, seed=9)
    expected = F.relu(expected + real(residual, residual_q) if adds else expected)
    out = output_range(expected, UINT8, 0.9)
    for stored in (out, None) if not adds else (out,):
        layer = modules.QuantizedConv2d(
            *found.weights(), "relu", x_q, stored, *found.geometry(), residual=residual_q if adds else None
        )
        actual = layer(channels_last(x), residual if adds else None)
        if stored is None:
            torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
        else:
            assert_close(actual, affine.quantize(expected, out))


@given(convs(), st.sampled_from(sorted(ACTIVATIONS)), st.booleans())
def test_the_float_kernels(conv: Conv, activation: str, adds: bool) -> None:
    """The fair fp32 model's, on the same geometries."""
    stored, scales, bias = conv.weights()
    weight, x = stored.float() * scales.view(-1, 1, 1, 1), conv.images().float() / 64 - 1
    activation = activation if not adds else "relu"
    block = ConvBlock(weight, bias, *conv.geometry(), activation=activation, adds=adds)
    exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), *conv.geometry())
    residual = torch.randn(exact.shape, generator=torch.Generator().manual_seed(conv.seed)) if adds else None
    expected = exact if residual is None else exact + residual
    expected = ACTIVATIONS[activation].function(expected)
    actual = FrozenConv2d(block)(channels_last(x), residual)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ONE_COLUMN)
def test_fp32_is_right_where_its_kernel_is_wrong(name: str) -> None:
    found = ONE_COLUMN[name]
    assert is_miscomputed(found.size, *where(found, 0))
    weight, x = torch.randn(found.weights()[0].shape), found.images().float() / 64
    block = ConvBlock(weight, None, *found.geometry())
    expected = F.conv2d(x.double(), weight.double(), None, *found.geometry())
    torch.testing.assert_close(FrozenConv2d(block)(channels_last(x)).double(), expected, rtol=1e-4, atol=1e-4)


@given(convs(), st.sampled_from([0, 7]))
def test_what_is_wrong_was_doubted(conv: Conv, zero_point: int) -> None:
    if is_miscomputed(conv.size, *where(conv, zero_point)):
        assert may_be_miscomputed(*where(conv, zero_point))


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"])
def test_no_convolution_of_a_usual_model_is_doubted(name: str) -> None:
    for layer in models.get_model(name, num_classes=2).modules():
        if isinstance(layer, nn.Conv2d):
            assert not may_be_miscomputed(layer.weight.shape, layer.stride, layer.padding, layer.dilation, 100)


def test_dilation_as_wide_as_in_segmentation_uses_the_kernel() -> None:
    """3 x 3 taps 12 apart on an image of 9: all but the middle one may lie in the padding, but never all."""
    geometry = (torch.Size((8, 8, 3, 3)), (1, 1), (12, 12), (12, 12), 100)
    assert may_be_miscomputed(*geometry)
    assert not is_miscomputed((9, 9), *geometry)


def test_a_model_with_padding_around_1_x_1() -> None:
    model = Net(
        lambda m, x: m.last(m.depthwise(m.first(x))), first=conv(3, 16), last=conv(16, 4),
        depthwise=nn.Conv2d(16, 16, 1, padding=1, groups=16),
    )  # fmt: skip
    randomize(model)
    quantized = engine.quantize(model, [images()])
    assert quantized.first.out.zero_point > 0
    assert sqnr(run(model, images()), run(quantized, images())) > 25
    torch.testing.assert_close(run(engine.freeze(model), images()), run(model, images()), rtol=1e-4, atol=1e-4)
