"""Coverage counted by hand, SQNR, and the layer that was sabotaged."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import Net, conv, images, partly_fp32_net, residual_net, run
from pytest_ptq import engine
from pytest_ptq.engine.inspect import CAP_DB, Coverage, count_macs, coverage, gains, layer_errors, sqnr_db
from pytest_ptq.qconfig import X86, QConfig


def covered(model: nn.Module, x: Tensor, qconfig: QConfig = X86) -> Coverage:
    fused = engine.fuse(model)
    return coverage(fused, engine.quantize(model, [x], qconfig), x)


def test_coverage_by_hand() -> None:
    """16 x 16 outputs of 3 x 3 kernels: 3 -> 8 and 8 -> 8 channels, then 8 -> 10."""
    first, second, last = 16 * 16 * 8 * 3 * 9, 16 * 16 * 8 * 8 * 9, 8 * 10
    found = covered(residual_net(), images(1))
    assert found == Coverage(first + second + last, first + second + last, 0, (), 0)
    found = covered(residual_net(), images(1), replace(X86, fp32_layers=("conv2",)))
    assert (found.int8_macs, found.total_macs) == (first + last, first + second + last)
    assert found.fp32_parameters == 8 * 8 * 9 + 8
    assert found.fp32_layers == (
        ("conv2", "kept in fp32 by qconfig x86"),
        ("pool", "reads fp32 from conv2"),
        ("flatten", "reads fp32 from pool"),
    )


def test_a_batch_counts_every_image() -> None:
    assert covered(residual_net(), images(3)).total_macs == 3 * covered(residual_net(), images(1)).total_macs


def test_groups_strides_and_dilation() -> None:
    model = Net(lambda m, x: m.conv(x), conv=nn.Conv2d(4, 8, (3, 5), stride=2, groups=2, dilation=1))
    assert covered(model, images(1, 16, channels=4)).total_macs == 7 * 6 * 8 * 2 * 15


def test_what_runs_in_fp32_by_a_function_counts_too() -> None:
    """Coverage would claim everything, were only layers counted."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.up = conv(3, 4), nn.ConvTranspose2d(4, 6, 2, stride=2)
            self.weight = nn.Parameter(torch.randn(5, 6, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = F.conv2d(self.up(self.conv(x)), self.weight)
            x = x.flatten(2)
            return torch.matmul(x, x.transpose(1, 2))

    found = covered(Functional().eval(), images(1, 8))
    in_int8, up, by_function, product = 64 * 4 * 3 * 9, 64 * 4 * 6 * 4, 256 * 5 * 6, 5 * 256 * 5
    assert (found.int8_macs, found.total_macs) == (in_int8, in_int8 + up + by_function + product)
    assert found.fp32_parameters == (4 * 6 * 4 + 6) + 5 * 6


def test_attention_is_counted() -> None:
    """Also where torch would run all of it in one operation."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    model = Net(lambda m, x: m.attention(y := m.embed(x), y, y)[0], embed=nn.Linear(8, 8), attention=attention)
    found = covered(model, torch.randn(2, 5, 8))
    embed, projections, products = 10 * 8 * 8, 4 * 10 * 8 * 8, 2 * 2 * 5 * 5 * 8
    assert (found.int8_macs, found.total_macs) == (embed, embed + projections + products)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_shared_layer_counts_each_call_and_its_weights_once() -> None:
    model = Net(lambda m, x: m.last(m.shared(m.shared(x))), shared=conv(3, 3), last=conv(3, 4))
    found = covered(model, images(1), replace(X86, fp32_layers=("shared", "shared#2")))
    assert found.total_macs == 256 * (2 * 3 * 3 * 9 + 3 * 4 * 9)
    assert found.int8_macs == 256 * 3 * 4 * 9


def test_macs_by_node() -> None:
    macs = count_macs(engine.fuse(partly_fp32_net()), images(1))
    assert sorted(n for n in macs.values() if n) == sorted([256 * 8 * 27, 256 * 8 * 72, 256 * 4 * 72, 4 * 64 * 10])


def test_sqnr() -> None:
    signal = torch.tensor([3.0, -4.0])
    assert sqnr_db(signal, signal + torch.tensor([0.5, 0.0])) == pytest.approx(10 * math.log10(25 / 0.25))
    assert sqnr_db(signal, signal * 2) == pytest.approx(0.0)
    assert sqnr_db(signal, signal) == CAP_DB
    assert sqnr_db(torch.zeros(2), torch.zeros(2)) == CAP_DB
    assert sqnr_db(torch.zeros(2), signal) == -CAP_DB
    assert sqnr_db(signal * 1e-30, signal * 1e30) == -CAP_DB


def test_every_int8_layer_has_its_error_in_the_order_of_the_graph() -> None:
    model, x = residual_net(), images(4)
    rows = layer_errors(engine.fuse(model), engine.quantize(model, [x]), x)
    assert [(row.name, row.kind) for row in rows] == [
        ("conv1", "conv2d"), ("conv2", "conv2d"), ("pool", "adaptive_avg_pool2d"), ("flatten", "flatten"),
        ("fc", "linear"),
    ]  # fmt: skip
    assert all(25 < row.sqnr_db < 60 for row in rows)


@pytest.mark.parametrize("sabotaged", ["conv1", "conv2", "fc"])
def test_the_sabotaged_layer_is_named(sabotaged: str) -> None:
    model, x = residual_net(), images(4)
    fused, quantized = engine.fuse(model), engine.quantize(model, [x])
    layer = quantized.get_submodule(sabotaged)
    layer.scales.mul_(4)
    layer._prepare()
    errors = {row.name: row.sqnr_db for row in layer_errors(fused, quantized, x)}
    assert errors[sabotaged] < 10
    names = list(errors)
    assert all(errors[name] > 25 for name in names[: names.index(sabotaged)]), "what lies before it is innocent"


def test_gain_of_the_layer_that_costs_most() -> None:
    """A convolution whose channels differ by a factor of 500 suffers from one scale for all of them."""
    model, x = residual_net(), images(4)
    with torch.no_grad():
        model.conv2.weight[0] *= 500
        model.bn2.running_var[0] = 500.0**2
        model.conv2.weight[3] *= 300
    qconfig = replace(X86, weight_granularity="per_tensor")
    fused = engine.fuse(model)
    prepared = engine.prepare(fused, qconfig)
    calibration = engine.calibrate(prepared, [x])
    quantized = engine.convert(prepared)
    rows = gains(fused, quantized, calibration, layer_errors(fused, quantized, x), x)
    gain = {row.name: row.gain_db for row in rows}
    assert max(gain, key=lambda name: gain[name]) == "conv2"
    assert gain["conv2"] > 6
    kept = engine.convert(prepared, calibration, replace(qconfig, fp32_layers=("conv2",)))
    reference = run(fused, x)
    expected = sqnr_db(reference, run(kept, x)) - sqnr_db(reference, run(quantized, x))
    assert gain["conv2"] == pytest.approx(expected)


def test_a_model_of_one_layer_has_no_gain_to_tell() -> None:
    model, x = Net(lambda m, x: m.conv(x), conv=conv(3, 4)), images()
    prepared = engine.prepare(model)
    calibration = engine.calibrate(prepared, [x])
    quantized = engine.convert(prepared)
    rows = gains(prepared.fused, quantized, calibration, layer_errors(prepared.fused, quantized, x), x)
    assert [row.gain_db for row in rows] == [None]
