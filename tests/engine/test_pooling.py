"""Pooling over sequences, images and volumes, held against exact fp64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.nets import Net, run, sqnr
from engine.test_kernels import assert_close, integers, output_range, real, seeds, zero_points
from pytest_ptq import engine
from pytest_ptq.engine import affine, modules
from pytest_ptq.engine.affine import UINT8, QParams

AVERAGE: dict[int, Any] = {
    1: (F.avg_pool1d, modules.QuantizedAvgPool1d), 2: (F.avg_pool2d, modules.QuantizedAvgPool2d),
    3: (F.avg_pool3d, modules.QuantizedAvgPool3d),
}  # fmt: skip
MAXIMUM: dict[int, Any] = {
    1: (F.max_pool1d, modules.QuantizedMaxPool1d), 2: (F.max_pool2d, modules.QuantizedMaxPool2d),
    3: (F.max_pool3d, modules.QuantizedMaxPool3d),
}  # fmt: skip
ADAPTIVE: dict[int, Any] = {
    1: (F.adaptive_avg_pool1d, F.adaptive_max_pool1d), 2: (F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
    3: (F.adaptive_avg_pool3d, F.adaptive_max_pool3d),
}  # fmt: skip
dimensions = st.sampled_from([1, 2, 3])


@settings(max_examples=60)
@given(
    dimensions, st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans(), st.booleans(), zero_points, seeds
)
def test_windows(
    dims: int, kernel: int, stride: int, pads: bool, ceil: bool, counts: bool, zero_point: int, seed: int
) -> None:
    padding, q = kernel // 2 if pads else 0, QParams(0.03, zero_point)
    x = integers(2, 3, *(7, 5, 6)[:dims], seed=seed)
    function, layer = MAXIMUM[dims]
    expected = function(x.double(), kernel, stride, padding, 1, ceil)
    assert torch.equal(layer(kernel, stride, padding, 1, ceil)(x).double(), expected.clamp_min(0))
    function, layer = AVERAGE[dims]
    expected = function(real(x, q), kernel, stride, padding, ceil, counts)
    out = output_range(expected, UINT8, 0.9)
    assert_close(layer(q, out, kernel, stride, padding, ceil, counts)(x), affine.quantize(expected, out))


@given(dimensions, st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)), zero_points, seeds)
def test_a_given_size(dims: int, size: tuple[int, ...], zero_point: int, seed: int) -> None:
    x, q, wanted = integers(2, 3, *(7, 5, 6)[:dims], seed=seed), QParams(0.03, zero_point), size[:dims]
    average, maximum = ADAPTIVE[dims]
    kind = getattr(modules, f"QuantizedAdaptiveMaxPool{dims}d")
    assert torch.equal(kind(wanted)(x).double(), maximum(x.double(), wanted))
    expected = average(real(x, q), wanted)
    out = output_range(expected, UINT8, 0.9)
    assert_close(
        getattr(modules, f"QuantizedAdaptiveAvgPool{dims}d")(q, out, wanted)(x), affine.quantize(expected, out)
    )


@given(st.sampled_from([(1,), (-1,), (0, 2), (1, 2, 3), (-3, -1)]), st.booleans(), zero_points, seeds)
def test_the_mean_over_any_dimensions(dims: tuple[int, ...], keepdim: bool, zero_point: int, seed: int) -> None:
    x, q = integers(2, 5, 3, 4, seed=seed), QParams(0.03, zero_point)
    expected = real(x, q).mean(dims, keepdim=keepdim)
    out = output_range(expected, UINT8, 0.9)
    assert_close(modules.QuantizedMean(q, out, keepdim, dims)(x), affine.quantize(expected, out))
    exact = modules.QuantizedMean(q, None, keepdim, dims)(x)
    torch.testing.assert_close(exact.double(), expected, rtol=1e-5, atol=1e-5)


POOLS: dict[str, tuple[int, Callable[[int], nn.Module]]] = {
    f"{name} {dims}d": (dims, getattr(nn, f"{kind}{dims}d"))
    for name, kind in (
        ("max", "MaxPool"), ("average", "AvgPool"), ("adaptive", "AdaptiveAvgPool"),
        ("adaptive max", "AdaptiveMaxPool"),
    )
    for dims in (1, 2, 3)
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_it_stays_in_int8(name: str, tmp_path: Path) -> None:
    dims, kind = POOLS[name]
    conv: Any = getattr(nn, f"Conv{dims}d")
    model = Net(lambda m, x: m.b(m.pool(F.relu(m.a(x)))), a=conv(3, 8, 3), pool=kind(3), b=conv(8, 4, 1))
    x = torch.randn(4, 3, *(13, 12, 11)[:dims], generator=torch.Generator().manual_seed(2))
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    assert sqnr(run(model, x), run(quantized, x)) > 25
    loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    assert torch.equal(run(loaded, x), run(quantized, x))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_windows_that_start_outside_and_indices(dims: int) -> None:
    """ceil_mode and padding as a model writes them; a pool that returns indices stays in fp32."""
    function = MAXIMUM[dims][0]
    conv: Any = getattr(nn, f"Conv{dims}d")

    def compute(m: Net, x: Tensor) -> Tensor:
        y = function(F.relu(m.a(x)), 3, 2, padding=1, ceil_mode=True)
        return m.b(y) + m.pool(m.b(y))[0].mean()

    x = torch.randn(4, 3, *(13, 12, 11)[:dims], generator=torch.Generator().manual_seed(2))
    pool = getattr(nn, f"MaxPool{dims}d")(2, 1, return_indices=True)
    model = Net(compute, a=conv(3, 8, 3), b=conv(8, 4, 1), pool=pool)
    quantized = engine.quantize(model, [x])
    assert dict(quantized.plan.fp32_layers)["pool"] == "pooling that returns indices"
    assert f"max_pool{dims}d" not in dict(quantized.plan.fp32_layers)
    assert sqnr(run(model, x), run(quantized, x)) > 20
