"""Functions of one number, as tables of their values at all integers: each rounded once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.nets import Net, conv, images, run, sqnr
from engine.test_kernels import channels_last, integers, output_range, seeds, shapes, zero_points
from pytest_ptq import engine
from pytest_ptq.engine import affine, modules
from pytest_ptq.engine.affine import UINT7, UINT8, QParams
from pytest_ptq.engine.modules import QuantizedLookup
from pytest_ptq.engine.op import Kind
from pytest_ptq.engine.table import OPS

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu, "gelu": F.gelu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "leaky_relu": F.leaky_relu, "elu": F.elu, "mish": F.mish, "softplus": F.softplus,
    "clamp": lambda x: x.clamp(-0.5, 2.5), "hardtanh": lambda x: F.hardtanh(x, -2.0, 0.3), "neg": torch.neg,
    "selu": F.selu, "celu": F.celu, "softsign": F.softsign, "abs": torch.abs, "prelu": nn.PReLU(init=0.3),
    "clamp_min": lambda x: x.clamp_min(-1.0), "clamp_max": lambda x: x.clamp_max(1.0),
    "div": lambda x: x / 3.0,
}  # fmt: skip


def test_every_table_of_the_ops_is_tested() -> None:
    assert {op.name for op in OPS if op.kind is Kind.ELEMENTWISE and op.modules + op.methods and not op.moves} - {
        "add", "sub", "mul", "mean", "maximum", "minimum",
        *(f"{a}avg_pool{n}d" for a in ("", "adaptive_") for n in (1, 2, 3)),
    } == set(FUNCTIONS)  # fmt: skip


def assert_rounded(actual: Tensor, expected: Tensor, q: QParams) -> None:
    """Rounded once: half a step away at most, and a little for what lies half way between two integers."""
    steps = (expected.double() / q.scale + q.zero_point).clamp(q.quant_min, q.quant_max)
    assert actual.dtype is torch.uint8
    assert float((actual.double() - steps).abs().max()) <= 0.501


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=10)
@given(zero_points, st.floats(1e-3, 0.1), seeds, st.sampled_from([UINT8, UINT7]))
def test_a_table_is_exact(name: str, zero_point: int, scale: float, seed: int, bounds: tuple[int, int]) -> None:
    x, x_q, function = integers(2, 3, 4, 5, seed=seed), QParams(scale, zero_point), FUNCTIONS[name]
    with torch.no_grad():
        expected = function(affine.dequantize(x, x_q))
    out = output_range(expected, bounds, 0.9)
    layer = modules.lookup(function, x_q, out)
    assert_rounded(layer(x), expected, out)
    assert_rounded(layer(channels_last(x)), expected, out)
    assert_rounded(layer(x.transpose(2, 3)), expected.transpose(2, 3), out)
    assert layer(channels_last(x)).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(modules.lookup(function, x_q, None)(x), expected)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"prelu"}))
def test_a_table_stands_in_a_model(name: str) -> None:
    function = FUNCTIONS[name]
    model, x = Net(lambda m, x: m.b(function(F.max_pool2d(m.a(x), 2))), a=conv(3, 8), b=conv(8, 4)), images(4)
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    assert sum(isinstance(layer, QuantizedLookup) for layer in quantized.modules()) == 1
    assert sqnr(run(model, x), run(quantized, x)) > 22


@pytest.mark.parametrize("name", ["silu", "gelu", "sigmoid", "tanh", "leaky_relu", "hardswish", "hardsigmoid"])
@pytest.mark.parametrize("dense", [False, True])
def test_an_activation_behind_a_layer_is_taken_in(name: str, dense: bool) -> None:
    function = FUNCTIONS[name]
    layer, last = (nn.Linear(16, 8), nn.Linear(8, 4)) if dense else (conv(3, 8), conv(8, 4))
    model, x = Net(lambda m, x: m.b(function(m.a(x))), a=layer, b=last), images(4)
    quantized = engine.quantize(model, [x])
    assert [n.target for n in quantized.graph.nodes if n.op == "call_module"] == ["x.quantize", "a", "b"]
    assert sqnr(run(model, x), run(quantized, x)) > 25


def test_a_value_that_is_not_finite_is_stored_as_zero() -> None:
    layer = modules.lookup(torch.log, QParams(0.1, 3), QParams(0.1, 100))
    assert layer(torch.tensor([0, 3, 13], dtype=torch.uint8)).tolist() == [100, 100, 100]


@given(shapes, zero_points, st.sampled_from([UINT8, UINT7]), seeds)
def test_slopes_that_differ_between_channels(
    shape: tuple[int, ...], zero_point: int, bounds: tuple[int, int], seed: int
) -> None:
    x, x_q = integers(*shape, seed=seed), QParams(0.03, zero_point)
    function = nn.PReLU(shape[1])
    with torch.no_grad():
        function.weight.copy_(torch.linspace(-0.5, 1.5, shape[1]))
        expected = function(affine.dequantize(x, x_q))
    out = output_range(expected, bounds, 0.9)
    for layout in (x, channels_last(x), x.flatten(2)):
        layer = modules.channel_lookup(function, shape[1], x_q, out)
        assert_rounded(layer(layout), expected.reshape(layout.shape), out)
        exact = modules.channel_lookup(function, shape[1], x_q, None)(layout)
        torch.testing.assert_close(exact, expected.reshape(layout.shape))


def test_prelu_behind_layers() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        return m.c(m.many(m.b(m.one(m.a(x)))))

    model = Net(compute, a=conv(3, 8), b=conv(8, 8), c=conv(8, 4), one=nn.PReLU(), many=nn.PReLU(8))
    with torch.no_grad():
        model.many.weight.copy_(torch.linspace(-0.5, 1.5, 8))
    quantized, x = engine.quantize(model, [images(4)]), images(4)
    assert quantized.plan.fp32_layers == ()
    assert sqnr(run(model, x), run(quantized, x)) > 22
