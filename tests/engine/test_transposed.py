"""Transposed convolutions: the same numbers as torch's, by an int8 convolution and a shuffle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.nets import Net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.inspect import coverage
from pytest_ptq.engine.modules import QuantizedWeighted
from pytest_ptq.engine.transposed import Transposed, as_convolution

KINDS: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SIZE = (7, 5, 6)


def each(low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(low, high)] * 3)


@settings(max_examples=150)
@given(
    st.sampled_from([1, 2, 3]), each(1, 5), each(1, 4), each(0, 3), each(0, 3), st.sampled_from([1, 2, 4]),
    st.booleans(), each(1, 4),
)  # fmt: skip
def test_it_is_a_convolution(
    dims: int, kernel: Any, stride: Any, padding: Any, more: Any, groups: int, bias: bool, size: tuple[int, ...]
) -> None:
    kernel, stride, padding, more, size = (v[:dims] for v in (kernel, stride, padding, more, size))
    for n, k, s, p, extra in zip(size, kernel, stride, padding, more, strict=True):
        assume(extra < s)
        assume((n - 1) * s - 2 * p + k + extra > 0)
    layer = KINDS[dims](groups * 2, groups * 3, kernel, stride, padding, more, groups, bias).double()
    block, interleave, _ = as_convolution(layer)
    x = torch.randn(2, groups * 2, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(interleave(block(x)), layer(x))
        torch.testing.assert_close(Transposed(block, interleave)(x), layer(x))


OPTIONS: dict[str, dict[str, Any]] = {
    "2 x 2": {"kernel_size": 2, "stride": 2},
    "4 x 4": {"kernel_size": 4, "stride": 2, "padding": 1},
    "3 x 3": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    "no stride": {"kernel_size": 3, "padding": 1},
    "holes": {"kernel_size": 2, "stride": 3},
    "groups": {"kernel_size": 4, "stride": 2, "padding": 1, "groups": 4, "bias": False},
}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_decoder(name: str, dims: int, tmp_path: Path) -> None:
    """Batch norm and activation are taken in; everything is int8, from the first layer to the last."""

    def compute(m: Net, x: Tensor) -> Tensor:
        return m.c(F.silu(m.d(F.relu(m.norm(m.up(F.relu(m.a(x))))))))

    up, more = KINDS[dims](8, 8, **OPTIONS[name]), KINDS[dims](8, 4, 2, 2)
    model = Net(compute, a=CONVS[dims](3, 8, 3), up=up, norm=NORMS[dims](8), d=more, c=CONVS[dims](4, 4, 1))
    x = torch.randn(4, 3, *SIZE[:dims], generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(run(engine.fuse(model), x), run(model, x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run(engine.freeze(model), x), run(model, x), rtol=1e-4, atol=1e-5)
    assert sum(isinstance(layer, Transposed) for layer in engine.freeze(model).modules()) == 2
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    weighted = [layer for layer in quantized.modules() if isinstance(layer, QuantizedWeighted)]
    assert [layer.activation for layer in weighted] == ["relu", "relu", "silu", "none"]
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in quantized.modules())
    assert sqnr(run(model, x), run(quantized, x)) > 22
    assert torch.equal(run(quantized, x[:1]), run(quantized, x)[:1])
    found = coverage(engine.fuse(model), quantized, x[:1])
    assert found.int8_macs == found.total_macs
    loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    assert torch.equal(run(loaded, x), run(quantized, x))


@pytest.mark.parametrize("qconfig", ["x86+bias", "best"])
def test_corrections(qconfig: str) -> None:
    model = Net(lambda m, x: m.c(F.relu(m.up(m.a(x)))), a=nn.Conv2d(3, 8, 3), up=nn.ConvTranspose2d(8, 8, 2, 2),
                c=nn.Conv2d(8, 4, 1))  # fmt: skip
    x = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(2))
    quantized = engine.quantize(model, [x], qconfig)
    assert sqnr(run(model, x), run(quantized, x)) > 25


def test_as_a_function() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.conv_transpose2d(m.a(x), m.up.weight, m.up.bias, (2, 2), 1, 1, 2)
        return m.c(F.relu(y))

    model = Net(compute, a=nn.Conv2d(3, 8, 3), up=nn.ConvTranspose2d(8, 8, 3, groups=2), c=nn.Conv2d(8, 4, 1))
    x = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(2))
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    assert sqnr(run(model, x), run(quantized, x)) > 25


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda m, x: m.wide(m.a(x)), "a dilated transposed convolution is no convolution of its input"),
        (lambda m, x: m.up(m.a(x), output_size=[15, 15]), "its size is given at the call"),
        (lambda m, x: F.conv_transpose2d(m.a(x), m.a(x)[:1]), "a function whose weights are not the model's own"),
    ],
)
def test_what_stays_in_fp32(compute: Any, reason: str) -> None:
    model = Net(
        compute, a=nn.Conv2d(3, 1, 3), wide=nn.ConvTranspose2d(1, 2, 3, dilation=2), up=nn.ConvTranspose2d(1, 2, 3, 2),
    )  # fmt: skip
    x = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(2))
    quantized = engine.quantize(model, [x])
    assert reason in dict(quantized.plan.fp32_layers).values()
    assert sqnr(run(model, x), run(quantized, x)) > 20
