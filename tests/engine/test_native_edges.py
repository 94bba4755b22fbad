"""Compiled kernels where integers and float32 meet, and beyond the edges of images: each against exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.test_native import ACTIVATIONS, ONE, convolutions, depthwise_convolutions, integers, rounding, rounds_to
from engine.test_native import expected as expected_steps
from engine.test_native import run as run_integers
from engine.test_native import weights as integer_weights
from pytest_ptq.engine.affine import QParams, conv2d_sums
from pytest_ptq.engine.kernels import native

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())

A, OUT = QParams(0.5, 3), QParams(0.7, 20, quant_max=250)
Make = Callable[[native.View], tuple[list[native.Step], native.View]]


def run(x: Tensor, make: Make) -> Tensor:
    """What steps make of float32 or of stored integers (N, C, H, W), where they leave float32."""
    whole = x.dtype is torch.uint8
    source = native.image(x.shape, unit=1 if whole else 4)
    steps, result = make(source)
    real = torch.zeros(result.shape).contiguous(memory_format=torch.channels_last)
    result.buffer.fix(real)
    first = native.quantize(source, ONE, 0.0) if whole else native.float_input(source)
    return native.Program([first, *steps], real)(x.float())


def reals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def around(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Above, below, left, right."""
    return draw(st.tuples(*[st.integers(0, 3)] * 4))


def padded(x: Tensor, sides: tuple[int, int, int, int], value: float) -> Tensor:
    above, below, left, right = sides
    return F.pad(x, (left, right, above, below), value=value)


def shapes_with(case: dict[str, Any], sides: tuple[int, int, int, int]) -> native.Geometry:
    return native.Geometry(case["stride"], (sides[0], sides[2]), case["dilation"], case["groups"])


@settings(max_examples=80, deadline=None)
@given(st.one_of(convolutions(), depthwise_convolutions()), around())
def test_padding_may_differ_between_the_sides(case: dict[str, Any], sides: tuple[int, int, int, int]) -> None:
    depthwise = "outputs" not in case
    case = {**case, "groups": case["channels"] if depthwise else case["groups"], "padding": (0, 0), "residual": False}
    outputs, zero = case.get("outputs", case["channels"]), case["zero"]
    x = integers(case["images"], case["channels"], *case["size"], seed=case["seed"])
    weight = integer_weights(outputs, case["channels"] // case["groups"], *case["kernel"], seed=case["seed"])
    to, q = rounding(case, weight[0].numel(), outputs), QParams(1.0, zero)
    exact = expected_steps(case, padded(x, sides, zero), weight, to, None)

    def integer(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image(exact.shape)
        assert source.buffer.widen(max(sides[:2]), max(sides[2:]), zero)
        make = native.depthwise if depthwise else native.product
        return [make(source, y, weight, q, shapes_with(case, sides), to)], y

    found = run_integers(tuple(x.shape), integer, x)
    rounds_to(found, exact, 10, torch.from_numpy(to.hi).view(1, -1, 1, 1))

    image, real_weight, bias = reals(*x.shape), reals(*weight.shape, seed=1), reals(outputs, seed=2)
    shape = case["stride"], 0, case["dilation"], case["groups"]
    expect = F.conv2d(padded(image, sides, 0.0).double(), real_weight.double(), bias.double(), *shape)

    def real(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image(expect.shape, unit=4)
        assert source.buffer.widen(max(sides[:2]), max(sides[2:]), 0)
        make = native.float_depthwise if depthwise else native.float_product
        return [make(source, y, real_weight, bias, shapes_with(case, sides), native.Ending())], y

    assert torch.allclose(run(image, real).double(), expect, rtol=1e-5, atol=2e-4)


@settings(max_examples=100, deadline=None)
@given(st.one_of(convolutions(), depthwise_convolutions()), st.sampled_from([(-9.0, 9.0), (0.0, 9.0), (0.0, 0.5)]))
def test_sums_may_stay_real_numbers(case: dict[str, Any], bounds: tuple[float, float]) -> None:
    """Also those to which a residual of integers is added."""
    depthwise = "outputs" not in case
    groups = case["channels"] if depthwise else case["groups"]
    outputs, zero, adds = case.get("outputs", case["channels"]), case["zero"], case.get("residual", False)
    x = integers(case["images"], case["channels"], *case["size"], seed=case["seed"])
    weight = integer_weights(outputs, case["channels"] // groups, *case["kernel"], seed=case["seed"])
    some = rounding(case, weight[0].numel(), outputs)
    activation = "none" if adds else case["activation"]
    to = native.Rounding(some.scale, some.bias, None, activation, floor=bounds[0], ceiling=bounds[1])
    geometry = native.Geometry(case["stride"], case["padding"], case["dilation"], groups)
    sums = conv2d_sums(x, zero, weight, case["stride"], case["padding"], case["dilation"], groups).double()
    exact = sums * to.scale.double().view(1, -1, 1, 1) + to.bias.double().view(1, -1, 1, 1)
    torch.set_num_threads(case["threads"])

    def make(source: native.View) -> tuple[list[native.Step], native.View]:
        y, q = native.image(exact.shape, unit=4), QParams(1.0, zero)
        assert source.buffer.widen(*case["padding"], zero)
        if depthwise:
            return [native.depthwise(source, y, weight, q, geometry, to)], y
        if not adds:
            return [native.product(source, y, weight, q, geometry, to)], y
        other = native.image(exact.shape)
        first = native.product(source, other, weight, q, geometry, some_plain)
        return [first, native.product(source, y, weight, q, geometry, to, (other, QParams(0.11, 7)))], y

    some_plain = native.Rounding(some.scale, some.bias, QParams(0.05, 30))
    if adds:  # what the step before it stores, in the same kernel
        stored = (exact / 0.05 + 30).round().clamp(0, 255)
        exact = exact + (stored - 7) * 0.11
    expect = ACTIVATIONS[activation](exact).clamp(*bounds)
    # A residual that lies half-way may be rounded otherwise: one step of it.
    off = (run(x, make).double() - expect).abs()
    assert float(off.max()) < (0.111 if adds else 1e-4)
    assert float((off > 1e-4).double().mean()) < 0.01


@pytest.mark.parametrize("channels", [1, 3, 16, 37, 70])
def test_integers_become_real_numbers_and_integers_again(channels: int) -> None:
    x = integers(2, channels, 5, 6)
    q = QParams(0.031, 77, quant_max=200)

    def real(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image(x.shape, unit=4)
        return [native.dequantize(source, y, q)], y

    assert torch.equal(run(x, real), (x.float() - 77) * 0.031)

    def again(source: native.View) -> tuple[list[native.Step], native.View]:
        middle, y = native.image(x.shape, unit=4), native.image(x.shape)
        return [native.dequantize(source, middle, A), native.quantize_view(middle, y, q, 0.25)], y

    rounds_to(run_integers(tuple(x.shape), again, x), (x.double() - 3) * 0.5 / 0.031 + 77.25, 0, 200)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 70), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)
)
def test_windows_that_share_an_image(images: int, channels: int, rows: int, columns: int, high: int, wide: int) -> None:
    x, image = integers(images, channels, rows, columns), reals(images, channels, rows, columns)
    mean = F.adaptive_avg_pool2d((x.double() - 3) * 0.5, (high, wide))

    def pooled(unit: int, step: Callable[[native.View, native.View], native.Step]) -> Make:
        def make(source: native.View) -> tuple[list[native.Step], native.View]:
            y = native.image(mean.shape, unit=unit)
            return [step(source, y)], y

        return make

    found = run_integers(tuple(x.shape), pooled(1, lambda s, y: native.average(s, A, y, OUT, native.SHARED)), x)
    rounds_to(found, mean / 0.7 + 20, 0, 250)
    found = run(x, pooled(4, lambda s, y: native.average(s, A, y, None, native.SHARED)))
    assert torch.allclose(found.double(), mean, rtol=1e-5, atol=1e-4)
    found = run_integers(tuple(x.shape), pooled(1, lambda s, y: native.maximum(s, y, native.SHARED)), x)
    assert torch.equal(found, F.adaptive_max_pool2d(x.float(), (high, wide)))
    found = run(image, pooled(4, lambda s, y: native.float_pool(s, y, native.SHARED, maximum=True)))
    assert torch.equal(found, F.adaptive_max_pool2d(image, (high, wide)))
    found = run(image, pooled(4, lambda s, y: native.float_pool(s, y, native.SHARED, maximum=False)))
    assert torch.allclose(found.double(), F.adaptive_avg_pool2d(image.double(), (high, wide)), rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2, 15, 16, 17, 96, 100]), st.floats(-100, 100), st.sampled_from([1e-6, 1e-3]))
def test_a_norm_over_channels(channels: int, middle: float, eps: float) -> None:
    x, weight, bias = reals(2, channels, 3, 5) + middle, reals(channels, seed=1), reals(channels, seed=2)

    def make(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image(x.shape, unit=4)
        return [native.float_norm(source, y, weight, bias, eps)], y

    rows = x.double().permute(0, 2, 3, 1)
    exact = F.layer_norm(rows, (channels,), weight.double(), bias.double(), eps).permute(0, 3, 1, 2)
    # One channel has no variance at all, and is left with what fp32 loses of its mean, through eps.
    assert torch.allclose(run(x, make).double(), exact, rtol=1e-3, atol=2e-3 if channels > 1 else 1e-2)
