"""Compiled kernels, each against exact arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_ptq.engine.affine import QParams, conv2d_sums
from pytest_ptq.engine.kernels import native

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())

ONE = QParams(1.0, 0)
CLOSE = 1e-3
"""Steps by which fp32 may miss the exact value before it is rounded."""


def run(
    shape: tuple[int, ...], make: Callable[[native.View], tuple[list[native.Step], native.View]], x: Tensor
) -> Tensor:
    """What steps make of stored integers (N, C, H, W): the program quantizes them as they are, and reads them back."""
    source = native.image(shape)
    steps, result = make(source)
    out, real = read_back(result)
    program = native.Program([native.quantize(source, ONE, 0.0), *steps, out], real)
    return program(x.float())


def read_back(view: native.View) -> tuple[native.Step, Tensor]:
    """Stored integers -> float32: a product with one."""
    c, real = view.channels, torch.zeros(view.shape).contiguous(memory_format=torch.channels_last)
    y = native.image(view.shape, unit=4)
    y.buffer.fix(real)
    to = native.Rounding(torch.ones(c), torch.zeros(c), None)
    return native.product(view, y, torch.eye(c, dtype=torch.int8).view(c, c, 1, 1), ONE, native.Geometry(), to), real


def integers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def weights(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-127, 128, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(seed + 1))


def rounds_to(found: Tensor, exact: Tensor, lo: int = 0, hi: Any = 255) -> None:
    """Every integer is one that the exact steps may be rounded to."""
    bounded = torch.minimum(exact.clamp(min=lo), torch.as_tensor(hi, dtype=exact.dtype))
    assert float((found.double() - bounded).abs().max()) <= 0.5 + CLOSE


ACTIVATIONS = {
    "none": lambda x: x, "hardswish": F.hardswish, "silu": F.silu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}  # fmt: skip


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2)]))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(2))
    least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return {
        "channels": groups * draw(st.sampled_from([1, 2, 3, 4, 7, 16, 20])),
        "outputs": groups * draw(st.sampled_from([1, 5, 16, 17, 33, 48, 70, 130])),
        "size": tuple(draw(st.integers(n, n + 6)) for n in least),
        "images": draw(st.integers(1, 2)),
        "kernel": kernel, "stride": draw(st.sampled_from([(1, 1), (2, 2), (1, 2)])), "padding": padding,
        "dilation": dilation, "groups": groups, "zero": draw(st.integers(0, 255)), "seed": draw(st.integers(0, 99)),
        "activation": draw(st.sampled_from(["none", "none", *ACTIVATIONS])),
        "residual": draw(st.booleans()), "threads": draw(st.integers(1, 3)),
    }  # fmt: skip


def expected(case: dict[str, Any], x: Tensor, weight: Tensor, to: native.Rounding, other: Tensor | None) -> Tensor:
    """In float64: steps of the output before they are rounded."""
    zero = case["zero"]
    sums = conv2d_sums(x, zero, weight, case["stride"], case["padding"], case["dilation"], case["groups"])
    real = sums.double() * to.scale.double().view(1, -1, 1, 1) + to.bias.double().view(1, -1, 1, 1)
    if other is not None:
        real = real + (other.double() - 7) * 0.11
    assert to.out is not None
    return ACTIVATIONS[to.activation](real) / to.out.scale + to.out.zero_point


def rounding(case: dict[str, Any], inner: int, outputs: int) -> native.Rounding:
    generator = torch.Generator().manual_seed(case["seed"])
    scale = (torch.rand(outputs, generator=generator) + 0.5) / (73 * 74 * inner**0.5) * 4
    bias = torch.randn(outputs, generator=generator)
    bounds = torch.randint(100, 256, (outputs,), generator=generator).byte().numpy()
    return native.Rounding(scale, bias, QParams(0.05, 30), case["activation"], 10, bounds)


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_convolutions_are_exact_up_to_one_rounding(case: dict[str, Any]) -> None:
    x = integers(case["images"], case["channels"], *case["size"], seed=case["seed"])
    weight = weights(case["outputs"], case["channels"] // case["groups"], *case["kernel"], seed=case["seed"])
    case["activation"] = "none" if case["residual"] else case["activation"]
    to = rounding(case, weight[0].numel(), len(weight))
    geometry = native.Geometry(case["stride"], case["padding"], case["dilation"], case["groups"])
    q, shape = QParams(1.0, case["zero"]), expected(case, x, weight, to, None).shape
    torch.set_num_threads(case["threads"])

    def convolution(w: Tensor, *residual: Tensor) -> Callable[[native.View], tuple[list[native.Step], native.View]]:
        def make(source: native.View) -> tuple[list[native.Step], native.View]:
            y, first = native.image(shape), native.image(shape)
            assert source.buffer.widen(*case["padding"], case["zero"])
            before = [native.product(source, first, others, q, geometry, to) for others in residual]
            adds = (first, QParams(0.11, 7)) if residual else None
            return [*before, native.product(source, y, w, q, geometry, to, adds)], y

        return make

    # A residual of the output's shape: another convolution of the same input.
    residual = [weights(*weight.shape, seed=case["seed"] + 5)] if case["residual"] else []
    other = run(tuple(x.shape), convolution(residual[0]), x) if residual else None
    found = run(tuple(x.shape), convolution(weight, *residual), x)
    rounds_to(found, expected(case, x, weight, to, other), 10, torch.from_numpy(to.hi).view(1, -1, 1, 1))


@st.composite
def depthwise_convolutions(draw: st.DrawFn) -> dict[str, Any]:
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (5, 5), (5, 5), (7, 7), (2, 3), (1, 5), (9, 1)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 2)]))
    least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return {
        "channels": draw(st.sampled_from([2, 16, 24, 58, 64, 72, 128, 130])), "kernel": kernel, "groups": 0,
        "size": tuple(draw(st.integers(n, n + 8)) for n in least),
        "stride": draw(st.sampled_from([(1, 1), (2, 2), (2, 1)])), "padding": tuple(k // 2 for k in kernel),
        "dilation": dilation, "zero": draw(st.integers(0, 255)), "images": draw(st.integers(1, 2)),
        "activation": draw(st.sampled_from(list(ACTIVATIONS))), "seed": draw(st.integers(0, 99)),
        "threads": draw(st.integers(1, 3)),
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(depthwise_convolutions())
def test_depthwise_convolutions_too(case: dict[str, Any]) -> None:
    case["groups"] = channels = case["channels"]
    x = integers(case["images"], channels, *case["size"], seed=case["seed"])
    weight = weights(channels, 1, *case["kernel"], seed=case["seed"])
    to = rounding(case, weight[0].numel(), channels)
    exact = expected(case, x, weight, to, None)
    torch.set_num_threads(case["threads"])

    def make(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image(exact.shape)
        assert source.buffer.widen(*case["padding"], case["zero"])
        geometry = native.Geometry(case["stride"], case["padding"], case["dilation"], channels)
        return [native.depthwise(source, y, weight, QParams(1.0, case["zero"]), geometry, to)], y

    rounds_to(run(tuple(x.shape), make, x), exact, 10, torch.from_numpy(to.hi).view(1, -1, 1, 1))


A, B, OUT = QParams(0.5, 3), QParams(0.25, 200), QParams(0.7, 20, quant_max=250)


def test_a_factor_for_each_channel() -> None:
    x = integers(2, 37, 5, 6)

    def make(source: native.View) -> tuple[list[native.Step], native.View]:
        factor, y = native.image((2, 37, 1, 1)), native.image(x.shape)
        return [native.mean(source, ONE, factor, ONE), native.scaling(source, A, factor, B, y, OUT)], y

    factor = x.double().mean((2, 3), keepdim=True).round()
    exact = (x.double() - 3) * 0.5 * (factor - 200) * 0.25 / 0.7 + 20
    rounds_to(run(tuple(x.shape), make, x), exact, 0, 250)


def test_a_sum_of_two_tensors_and_their_parts() -> None:
    x = integers(2, 40, 5, 6)

    def make(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image((2, 20, 5, 6))
        return [native.addition(source.part(0, 20), A, source.part(20, 20), B, y, OUT)], y

    exact = ((x[:, :20].double() - 3) * 0.5 + (x[:, 20:].double() - 200) * 0.25) / 0.7 + 20
    rounds_to(run(tuple(x.shape), make, x), exact, 0, 250)


def test_the_mean_of_an_image() -> None:
    x = integers(2, 70, 5, 6)

    def make(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image((2, 70, 1, 1))
        return [native.mean(source, A, y, OUT)], y

    rounds_to(run(tuple(x.shape), make, x), (x.double().mean((2, 3), keepdim=True) - 3) * 0.5 / 0.7 + 20, 0, 250)


WINDOWS = [((3, 3), (2, 2), (1, 1)), ((2, 3), (1, 2), (0, 1)), ((1, 1), (2, 2), (0, 0)), ((5, 6), (5, 6), (0, 0))]


@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_the_maximum_of_windows(kernel: Any, stride: Any, padding: Any) -> None:
    x = integers(2, 70, 7, 8)
    expect = F.max_pool2d(x.float(), kernel, stride, padding)

    def make(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image(expect.shape)
        return [native.maximum(source, y, native.Windows(kernel, stride, padding))], y

    assert torch.equal(run(tuple(x.shape), make, x), expect)


@pytest.mark.parametrize("divisor", [None, 0, 5])
@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_the_mean_of_windows(kernel: Any, stride: Any, padding: Any, divisor: int | None) -> None:
    x = integers(2, 20, 7, 8)
    exact = F.avg_pool2d((x.double() - 3) * 0.5, kernel, stride, padding, False, divisor != 0, divisor or None)

    def make(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image(exact.shape)
        count = kernel[0] * kernel[1] if divisor is None else divisor
        return [native.average(source, A, y, OUT, native.Windows(kernel, stride, padding), count)], y

    rounds_to(run(tuple(x.shape), make, x), exact / 0.7 + 20, 0, 250)


TABLE = integers(256, seed=3)


@pytest.mark.parametrize("table", [None, TABLE])
def test_channels_beside_each_other_and_in_turn(table: Tensor | None) -> None:
    x = integers(2, 76, 5, 6)
    a, b = x[:, :38], x[:, 38:]
    looked = TABLE[b.long()] if table is not None else b

    def beside(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image(x.shape)
        parts = source.part(38, 38), y.part(0, 38), source.part(0, 38), y.part(38, 38)
        return [native.copy(parts[0], parts[1], table), native.copy(parts[2], parts[3])], y

    def in_turn(source: native.View) -> tuple[list[native.Step], native.View]:
        y = native.image(x.shape)
        return [native.interleave(source.part(0, 38), None, source.part(38, 38), table, y)], y

    assert torch.equal(run(tuple(x.shape), beside, x), torch.cat([looked, a], 1).float())
    assert torch.equal(run(tuple(x.shape), in_turn, x), torch.stack([a, looked], 2).flatten(1, 2).float())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_quantizing_an_input_of_any_layout(channels: int, layout: torch.memory_format) -> None:
    x = torch.randn(2, channels, 6, 37, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    q = QParams(0.02, 120, quant_max=200)
    source = native.image(x.shape, pixel=4 if channels == 3 else None)
    out, real = read_back(source)
    program = native.Program([native.quantize(source, q, 0.25), out], real)
    found = program(x)
    rounds_to(found, x.double() / 0.02 + 120.25, 0, 200)
    strided = torch.zeros(2, 2 * channels, 6, 40)
    strided[:, ::2, :, 3:] = x
    assert torch.equal(program(strided[:, ::2, :, 3:]), found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), min_size=2, max_size=12), st.randoms())
def test_buffers_that_live_together_do_not_overlap(sizes: list[tuple[int, int]], random: Any) -> None:
    from pytest_ptq.engine.kernels.native.arena import Buffer, place

    buffers = [Buffer(1, rows, columns, 3, 3, border=(1, 2)) for rows, columns in sizes]
    uses = [[random.choice(buffers), random.choice(buffers)] for _ in range(3 * len(buffers))]
    memory = place(uses)
    for i in range(len(uses)):
        seen_before = {id(b) for u in uses[: i + 1] for b in u}
        seen_after = {id(b) for u in uses[i:] for b in u}
        alive = [b for b in buffers if id(b) in seen_before & seen_after]
        spans = sorted((b.address, b.address + b.bytes) for b in alive)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
        assert all(memory.data_ptr() <= a and b <= memory.data_ptr() + memory.numel() for a, b in spans)


def test_a_border_that_two_want_filled_with_different_values_is_two() -> None:
    buffer = native.image((1, 3, 4, 4)).buffer
    assert buffer.widen(1, 1, 7)
    assert buffer.widen(2, 0, 7)
    assert buffer.border == (2, 1)
    assert not buffer.widen(1, 1, 8)
    assert buffer.widen(0, 0, 8), "who reads nothing beyond the edges does not mind"
