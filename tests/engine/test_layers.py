"""Layers beside convolutions: averages, concatenation, moves; each against the reference arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.nets import Net, conv, images, run, sqnr
from engine.test_kernels import assert_close, channels_last, integers, output_range, real, seeds, shapes, zero_points
from engine.test_tables import assert_rounded
from pytest_ptq import engine
from pytest_ptq.engine import affine, kernels, modules
from pytest_ptq.engine.affine import UINT7, UINT8, QParams
from pytest_ptq.engine.modules import QuantizedCat, QuantizedConv1d, QuantizedPad
from pytest_ptq.qconfig import X86


@settings(max_examples=25)
@given(
    shapes, zero_points, st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.booleans(), st.booleans(), seeds
)
def test_average_pooling(
    shape: tuple[int, ...], zero_point: int, kernel: int, stride: int, padding: int, ceil: bool, counts: bool, seed: int
) -> None:
    padding = min(padding, kernel // 2)
    if min(shape[2:]) + 2 * padding < kernel:
        return
    x, q = channels_last(integers(*shape, seed=seed)), QParams(0.03, zero_point)
    expected = F.avg_pool2d(real(x, q), kernel, stride, padding, ceil, counts)
    out = output_range(expected, UINT8, 0.9)
    rest: Any = (kernel, stride, padding, ceil, counts)
    assert_close(modules.QuantizedAvgPool2d(q, out, *rest)(x), affine.quantize(expected, out))
    exact = modules.QuantizedAvgPool2d(q, None, *rest)(x)
    torch.testing.assert_close(exact.double(), expected, rtol=1e-5, atol=1e-5)


@given(shapes, zero_points, st.tuples(st.integers(1, 7), st.integers(1, 7)), seeds)
def test_adaptive_average_pooling(shape: tuple[int, ...], zero_point: int, size: tuple[int, int], seed: int) -> None:
    x, q = channels_last(integers(*shape, seed=seed)), QParams(0.03, zero_point)
    expected = F.adaptive_avg_pool2d(real(x, q), size)
    out = output_range(expected, UINT8, 0.9)
    assert_close(modules.QuantizedAdaptiveAvgPool2d(q, out, size)(x), affine.quantize(expected, out))


@given(shapes, zero_points, zero_points, st.sampled_from([UINT8, UINT7]), st.integers(0, 3), seeds)
def test_concatenation(
    shape: tuple[int, ...], a_zero: int, b_zero: int, bounds: tuple[int, int], dim: int, seed: int
) -> None:
    a, b = integers(*shape, seed=seed), channels_last(integers(*shape, seed=seed + 1))
    a_q, b_q = QParams(0.03, a_zero), QParams(0.007, b_zero)
    expected = torch.cat([real(a, a_q), real(b, b_q)], dim)
    out = output_range(expected, bounds, 0.9)
    assert_rounded(QuantizedCat([a_q, b_q], out, dim)(a, b), expected, out)
    exact = QuantizedCat([a_q, b_q], None, dim)(a, b)
    torch.testing.assert_close(exact.double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(QuantizedCat([out, out], out, dim)(a, b), torch.cat([a, b], dim)), "in that scale already"


@given(shapes, zero_points, zero_points, st.sampled_from([UINT8, UINT7]), seeds)
def test_difference(shape: tuple[int, ...], a_zero: int, b_zero: int, bounds: tuple[int, int], seed: int) -> None:
    a, b = integers(*shape, seed=seed), integers(*shape, seed=seed + 1)
    a_q, b_q = QParams(0.03, a_zero), QParams(0.007, b_zero)
    expected = real(a, a_q) - real(b, b_q)
    out = output_range(expected, bounds, 0.9)
    assert_close(modules.QuantizedSub(a_q, b_q, out)(a, b), affine.quantize(expected, out))
    exact = modules.QuantizedSub(a_q, b_q, None)(a, b)
    torch.testing.assert_close(exact.double(), expected, rtol=1e-5, atol=1e-5)


def test_padding_is_the_integer_of_zero() -> None:
    q = QParams(0.1, 7)
    y = QuantizedPad(q, (1, 2, 0, 1))(integers(1, 2, 3, 3, seed=1))
    assert real(y, q)[..., 0].abs().max() == 0
    assert y.shape == (1, 2, 4, 6)


def test_what_is_concatenated_shares_a_scale() -> None:
    """Read by nobody else, branches are rounded once, straight into the scale of the whole."""

    def compute(m: Net, x: Tensor) -> Tensor:
        inner = torch.cat([F.relu(m.a(x)), m.b(x) * 3], 1)
        return m.c(torch.cat([inner, m.d(x)], 1))

    model, x = Net(compute, a=conv(3, 8), b=conv(3, 8), c=conv(24, 4), d=conv(3, 8)), images(4)
    quantized = engine.quantize(model, [x])
    whole = quantized.stored["cat#2"]
    assert {quantized.stored[n] for n in ("a", "mul", "cat", "d")} == {whole}
    assert quantized.stored["b"] != whole
    tables = [layer.tables for layer in quantized.modules() if isinstance(layer, QuantizedCat)]
    assert tables == [[None, None], [None, None]]
    assert sqnr(run(model, x), run(quantized, x)) > 25


def test_what_others_read_too_keeps_its_scale() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.relu(m.a(x))
        return m.c(torch.cat([y, m.b(y) * 40], 1))

    model, x = Net(compute, a=conv(3, 8), b=conv(8, 8), c=conv(16, 4)), images(4)
    quantized = engine.quantize(model, [x])
    assert quantized.stored["a"] != quantized.stored["cat"]
    assert quantized.stored["mul"] == quantized.stored["cat"]
    assert sqnr(run(model, x), run(quantized, x)) > 20


def test_concatenation_takes_fp32_beside_int8() -> None:
    model, x = Net(lambda m, x: m.b(torch.cat([m.a(x), x], 1)), a=conv(3, 8), b=conv(11, 4)), images(4)
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    assert sqnr(run(model, x), run(quantized, x)) > 25


@given(shapes, zero_points, zero_points, st.sampled_from([UINT8, UINT7]), seeds)
def test_the_larger_and_the_smaller_and_both(
    shape: tuple[int, ...], a_zero: int, b_zero: int, bounds: tuple[int, int], seed: int
) -> None:
    a, b = integers(*shape, seed=seed), channels_last(integers(*shape, seed=seed + 1))
    a_q, b_q = QParams(0.03, a_zero), QParams(0.007, b_zero)
    for kind, function in (
        (modules.QuantizedMaximum, torch.maximum), (modules.QuantizedMinimum, torch.minimum),
        (lambda r, o: modules.QuantizedStack(r, o, 1), lambda x, y: torch.stack([x, y], 1)),
    ):  # fmt: skip
        expected = function(real(a, a_q), real(b, b_q))
        out = output_range(expected, bounds, 0.9)
        assert_rounded(kind([a_q, b_q], out)(a, b), expected, out)
        exact = kind([a_q, b_q], None)(a, b)
        torch.testing.assert_close(exact.double(), expected, rtol=1e-6, atol=1e-6)


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "chunk": lambda x: torch.cat([x.chunk(2, 1)[1], x.chunk(2, 1)[0]], 1),
    "split": lambda x: torch.cat([x.split([3, 5], 1)[1], x.split([3, 5], 1)[0]], 1),
    "slice": lambda x: x[:, :, ::2, 1:],
    "ellipsis": lambda x: x[..., :8],
    "shuffle": lambda x: x.view(x.size(0), 2, 4, x.size(2), x.size(3)).transpose(1, 2).flatten(1, 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "roll": lambda x: torch.roll(x, (1, -2), (2, 3)),
    "flip": lambda x: x.flip(3),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "pad": lambda x: F.pad(x, (1, 2, 3, 0)),
    "movedim": lambda x: x.movedim(1, 2).movedim(2, 1),
    "expand": lambda x: x.unsqueeze(2).expand(-1, -1, 2, -1, -1).flatten(2, 3),
    "select": lambda x: x.unsqueeze(2).select(2, 0),
    "unbind": lambda x: x.unsqueeze(0).unbind(0)[0],
    "expand_as": lambda x: x.mean((2, 3), True).expand_as(x),
    "stack": lambda x: torch.stack([x, x * 2], 2).flatten(1, 2)[:, :8],
    "maximum": lambda x: torch.maximum(x, x.flip(2)),
    "max": lambda x: torch.max(x, other=x.flip(2)),
    "min": lambda x: x.min(x.flip(2) + 0.5),
    "ceil pooling": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "average": lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
    "number": lambda x: (2 - x) * 3 / 4,
}


@pytest.mark.parametrize("name", MOVES)
def test_it_stays_in_int8(name: str) -> None:
    move = MOVES[name]
    model, x = Net(lambda m, x: m.b(move(F.relu(m.a(x)))), a=conv(3, 8), b=conv(8, 4)), images(4)
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    assert sqnr(run(model, x), run(quantized, x)) > 22
    assert run(quantized, x[:1]).shape == run(model, x[:1]).shape


def test_a_sequence_that_the_graph_makes_is_concatenated_in_fp32() -> None:
    model, x = Net(lambda m, x: m.b(torch.cat(m.a(x).chunk(2, 1)[::-1], 1)), a=conv(3, 8), b=conv(8, 4)), images(4)
    quantized = engine.quantize(model, [x])
    assert dict(quantized.plan.fp32_layers)["cat"] == "it reads a sequence that the graph makes"
    assert sqnr(run(model, x), run(quantized, x)) > 25


def test_parts_of_an_int8_tensor_that_fp32_reads() -> None:
    """What only moves values for fp32 is fp32 itself, and the kernel before it rounds nothing."""
    model, x = Net(lambda m, x: torch.cos(m.a(x).chunk(2, 1)[0]), a=conv(3, 8)), images(4)
    quantized = engine.quantize(model, [x])
    assert [n.output for n in quantized.plan.nodes.values() if n.layer == "a"] == ["float32"]
    assert ("chunk", "moves values that only fp32 reads") in quantized.plan.fp32_layers
    assert sqnr(run(model, x), run(quantized, x)) > 25


def test_one_part_in_fp32_and_the_other_not() -> None:
    """A border behind a tuple: all its parts cross it."""

    def compute(m: Net, x: Tensor) -> Tensor:
        first, second = F.relu(m.a(x)).chunk(2, 1)
        return m.b(first) + m.c(second)

    model, x = Net(compute, a=conv(3, 8), b=conv(4, 4), c=conv(4, 4)), images(4)
    calibrated = engine.prepare(model)
    seen = engine.calibrate(calibrated, [x])
    kept = replace(X86, fp32_layers=("getitem",))
    quantized = engine.convert(calibrated, seen, kept)
    assert dict(quantized.plan.fp32_layers) == {"getitem": "kept in fp32 by qconfig x86"}
    assert sqnr(run(model, x), run(quantized, x)) > 25


@pytest.mark.parametrize("qconfig", ["x86", "minmax"])
def test_a_batch_norm_by_itself(qconfig: str) -> None:
    """Its gains span orders of magnitude, and cost nothing: each channel has a scale of its own."""
    model, x = Net(lambda m, x: m.b(F.relu(m.norm(F.max_pool2d(m.a(x), 2)))), a=conv(3, 8), b=conv(8, 4),
                   norm=nn.BatchNorm2d(8)), images(4)  # fmt: skip
    with torch.no_grad():
        model.norm.weight.copy_(torch.logspace(-2, 0, 8))
    quantized = engine.quantize(model, [x], qconfig)
    assert quantized.plan.fp32_layers == ()
    assert sqnr(run(model, x), run(quantized, x)) > 20
    torch.testing.assert_close(run(engine.freeze(model), x), run(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("qconfig", ["x86", "minmax", "x86+bias"])
@pytest.mark.parametrize("dims", [0, 1, 3])
def test_a_batch_norm_by_itself_over_other_than_images(dims: int, qconfig: str, tmp_path: Path) -> None:
    """Vectors (N, C), sequences and volumes."""
    kinds: Any = {0: nn.Linear, 1: nn.Conv1d, 3: nn.Conv3d}
    norm: Any = nn.BatchNorm3d if dims == 3 else nn.BatchNorm1d
    options = () if dims == 0 else (3,)
    model = Net(lambda m, x: m.b(F.silu(m.norm(F.relu(m.a(x) * 2)))), a=kinds[dims](6, 8, *options),
                b=kinds[dims](8, 4, *options), norm=norm(8))  # fmt: skip
    x = torch.randn(32, 6, *(7, 6, 5)[:dims], generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(run(engine.fuse(model), x), run(model, x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run(engine.freeze(model), x), run(model, x), rtol=1e-4, atol=1e-5)
    quantized = engine.quantize(model, [x], qconfig)
    assert quantized.plan.fp32_layers == ()
    assert sqnr(run(model, x), run(quantized, x)) > 20
    loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    assert torch.equal(run(loaded, x), run(quantized, x))


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding": "same"}, {"padding": 0}]
)
def test_conv1d(options: dict[str, Any]) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.relu(m.norm(m.a(x)))
        return m.c(F.silu(m.b(y)) + F.relu(m.d(y) + y))

    a = nn.Conv1d(3, 8, 3, **{"padding": 1, **options, "groups": 1})
    inner = nn.Conv1d(8, 8, 3, padding="same", groups=options.get("groups", 1), dilation=options.get("dilation", 1))
    model = Net(compute, a=a, norm=nn.BatchNorm1d(8), b=inner, c=nn.Conv1d(8, 4, 1), d=nn.Conv1d(8, 8, 1))
    x = torch.randn(4, 3, 20, generator=torch.Generator().manual_seed(3))
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    assert sum(isinstance(layer, QuantizedConv1d) for layer in quantized.modules()) == 4
    assert sqnr(run(model, x), run(quantized, x)) > 22
    torch.testing.assert_close(run(engine.freeze(model), x), run(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (20,), (8, 1), (1, 8, 20)])
def test_a_residual_of_conv1d_that_broadcasts(shape: tuple[int, ...]) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.relu(m.a(x))
        other = {0: y.mean((0, 1, 2)), 1: y.mean((0, 1)), 2: y[0, :, :1], 3: y[:1]}[len(shape)]
        return m.c(m.b(y) + other)

    model = Net(compute, a=nn.Conv1d(3, 8, 3, padding=1), b=nn.Conv1d(8, 8, 1), c=nn.Conv1d(8, 4, 1))
    x = torch.randn(4, 3, 20, generator=torch.Generator().manual_seed(3))
    quantized = engine.quantize(model, [x])
    assert sqnr(run(model, x), run(quantized, x)) > 22
    torch.testing.assert_close(run(engine.freeze(model), x), run(model, x), rtol=1e-4, atol=1e-4)


def test_a_linear_layer_with_a_zero_point_uses_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's quantized.linear falls off a cliff at input zero points other than 0; this kernel has none."""
    calls: list[int] = []
    real_linear = kernels.linear
    monkeypatch.setattr(
        kernels, "linear", lambda x, p, call, *rest: calls.append(call[1]) or real_linear(x, p, call, *rest)
    )
    model, x = Net(lambda m, x: m.b(F.silu(m.a(x))), a=nn.Linear(16, 8), b=nn.Linear(8, 4)), images(4)
    quantized = engine.quantize(model, [x])
    run(quantized, x)
    assert len(calls) == 2
    assert all(zero_point > 0 for zero_point in calls)


def test_depthwise_of_stride_2_without_padding_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow's padding stands in a layer of its own: both are int8, and the convolution one oneDNN kernel."""
    model = Net(
        lambda m, x: m.b(m.depthwise(m.pad(F.relu6(m.a(x))))), a=conv(3, 16), pad=nn.ZeroPad2d((1, 2, 1, 2)),
        depthwise=nn.Conv2d(16, 16, 5, 2, groups=16), b=conv(16, 4),
    )  # fmt: skip
    x = images(4)
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    calls: list[int] = []
    real_conv = kernels.conv2d
    monkeypatch.setattr(kernels, "conv2d", lambda *args: calls.append(1) or real_conv(*args))
    y = run(quantized, x)
    assert len(calls) == 3
    assert sqnr(run(model, x), y) > 25
