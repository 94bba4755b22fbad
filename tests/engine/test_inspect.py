"""What conversion did to each layer: SQNR, the layer that was sabotaged, and what the table tells besides."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.nets import Net, conv, images, partly_fp32_net, residual_net, run
from pytest_ptq import engine
from pytest_ptq.engine import kernels
from pytest_ptq.engine.inspect import (
    CAP_DB,
    Inspection,
    inspect_layers,
    sqnr_db,
)
from pytest_ptq.engine.inspect.channels import Channels
from pytest_ptq.errors import DataError, QuantizationError
from pytest_ptq.qconfig import X86, QConfig


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
    rows = inspect_layers(engine.fuse(model), engine.quantize(model, [x]), x)
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
    errors = {row.name: row.sqnr_db for row in inspect_layers(fused, quantized, x)}
    assert errors[sabotaged] < 10
    names = list(errors)
    assert all(errors[name] > 25 for name in names[: names.index(sabotaged)]), "what lies before it is innocent"


def inspected(model: nn.Module, x: Tensor, qconfig: QConfig = X86, **more: Any) -> tuple[Inspection, Any]:
    prepared = engine.prepare(model, qconfig)
    calibration = engine.calibrate(prepared, [x])
    quantized = engine.convert(prepared)
    return engine.inspect(quantized, model, x, calibration=calibration, **more), quantized


def test_alone_is_what_a_layer_does_to_exact_inputs() -> None:
    model, x = residual_net(), images(20)  # more than pass at once
    found, quantized = inspected(model, x)
    rows = {row.name: row for row in found.layers}
    fused = engine.fuse(model)
    first = fused.get_submodule("conv1")(x)
    exact = kernels.quantize(first, quantized.stored["conv1"])
    layer = quantized.get_submodule("conv2")
    alone = kernels.dequantize(layer(exact, exact.clone()), quantized.stored["conv2"])
    reference = fused.get_submodule("conv2")(first, first)
    assert rows["conv2"].alone_db == pytest.approx(sqnr_db(reference, alone))
    assert rows["conv2"].input_db == pytest.approx(sqnr_db(first, kernels.dequantize(exact, quantized.stored["conv1"])))
    assert rows["conv1"].alone_db == pytest.approx(rows["conv1"].sqnr_db), "nothing lies before it"
    assert rows["fc"].alone_db > rows["fc"].sqnr_db
    assert found.output_db == pytest.approx(rows["fc"].sqnr_db)


def test_weights_are_held_against_the_folded_ones() -> None:
    model, x = residual_net(), images(4)
    found, quantized = inspected(model, x)
    rows = {row.name: row for row in found.layers}
    block, layer = engine.fuse(model).get_submodule("conv2"), quantized.get_submodule("conv2")
    stored = layer.weight * layer.scales.view(-1, 1, 1, 1)
    noise = (block.weight - stored).square().sum((1, 2, 3)) / block.weight.square().sum((1, 2, 3))
    assert rows["conv2"].weight_db == pytest.approx(-10 * math.log10(noise.mean()), rel=1e-4)
    assert rows["pool"].weight_db is None


def test_small_channels_that_are_lost_under_one_scale_are_seen() -> None:
    model, x = residual_net(), images(4)
    with torch.no_grad():
        model.conv2.weight[0] *= 500
        model.bn2.running_var[0] = 1.0
    (coarse,) = (
        r for r in inspected(model, x, replace(X86, weight_granularity="per_tensor"))[0].layers if r.name == "conv2"
    )
    (fine,) = (r for r in inspected(model, x)[0].layers if r.name == "conv2")
    assert coarse.weight_db < 5
    assert fine.weight_db > 35


def test_the_table_of_scales_is_that_of_the_model() -> None:
    found, quantized = inspected(residual_net(), images(4))
    for row in found.layers[:-1]:
        assert (row.scale, row.zero_point) == (quantized.stored[row.name].scale, quantized.stored[row.name].zero_point)
    assert found.layers[-1].scale is None, "the logits are fp32"


def test_a_sabotaged_layer_is_guilty_alone_and_what_follows_is_not() -> None:
    model, x = residual_net(), images(4)
    quantized = engine.quantize(model, [x])
    layer = quantized.get_submodule("conv1")
    layer.scales.mul_(4)
    layer._prepare()
    found = engine.inspect(quantized, model, x)
    rows = {row.name: row for row in found.layers}
    assert rows["conv1"].alone_db < 10
    assert rows["conv2"].alone_db > 25 > rows["conv2"].sqnr_db
    assert found.worst(1)[0].name == "conv1"


def test_dead_and_clipped() -> None:
    model, x = residual_net(), images(4)
    with torch.no_grad():
        model.bn1.bias[2] = -1000.0
        model.bn1.bias[5] = -1000.0
    quantized = engine.quantize(model, [x])
    rows = {row.name: row for row in engine.inspect(quantized, model, x * 3).layers}
    assert (rows["conv1"].dead_channels, rows["conv1"].channels) == (2, 8)
    assert 1 < rows["conv1"].clipped_percent < 60, "three times what it was calibrated on"
    rows = {row.name: row for row in engine.inspect(quantized, model, x).layers}
    assert rows["conv1"].clipped_percent < 1
    assert rows["fc"].clipped_percent is None
    assert rows["flatten"].dead_channels is None


def test_overflows_are_counted_on_what_the_layer_reads() -> None:
    model = Net(lambda m, x: m.last(m.relu(m.first(x))), first=conv(4, 4, 1), relu=nn.ReLU(), last=conv(4, 4, 1))
    with torch.no_grad():
        for layer in (model.first, model.last):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
    x = torch.ones(9, 4, 4, 4)
    found, _ = inspected(model, x, replace(X86, activation_observer="minmax", reduce_range=False))
    every = 9 * 16 * 4 * 2
    assert [(r.pairs, r.overflowing_pairs, r.possible_pairs) for r in found.layers] == [(every, every, every)] * 2
    found, _ = inspected(model, x, replace(X86, reduce_range=True))
    assert [(r.pairs, r.overflowing_pairs, r.possible_pairs) for r in found.layers] == [(every, 0, 0)] * 2


def test_the_int8_model_is_left_as_it_was() -> None:
    model, x = residual_net(), images(9)
    quantized = engine.quantize(model, [x])
    before = run(quantized, x)
    engine.inspect(quantized, model, x)
    assert torch.equal(run(quantized, x), before)


def test_it_prints_and_gives_what_can_be_plotted() -> None:
    found, _ = inspected(residual_net(), images(4), replace(X86, fp32_layers=("fc",)), gains_of=2)
    text = str(found)
    for part in ("dB on 4 images, 3 layers in int8", "int16 overflows", "left in fp32: fc: kept in fp32 by qconfig"):
        assert part in text
    columns = found.series()
    assert columns["name"] == ["conv1", "conv2", "pool"]
    assert columns["sqnr_db"] == [row.sqnr_db for row in found.layers]
    assert sum(gain is not None for gain in columns["gain_db"]) == 2
    json.dumps(columns, allow_nan=False)


def test_a_model_that_is_partly_fp32() -> None:
    found, _ = inspected(partly_fp32_net(), images(4))
    assert all(row.sqnr_db > 20 for row in found.layers)
    assert all(row.alone_db > 20 for row in found.layers)


def test_what_cannot_be_inspected() -> None:
    model, x = residual_net(), images(2)
    with pytest.raises(QuantizationError, match="inspect was given a Net"):
        engine.inspect(model, model, x)
    quantized = engine.quantize(model, [x])
    with pytest.raises(QuantizationError, match="without its calibration"):
        engine.inspect(quantized, model, x, gains_of=1)
    with pytest.raises(DataError, match="inspected batch 0: the batch holds NaN"):
        engine.inspect(quantized, model, x * math.nan)


def test_equalized_layers_are_held_against_the_equalized_model() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        return m.last(m.relu(m.first(x)))

    model, x = Net(compute, first=conv(3, 8), relu=nn.ReLU(), last=conv(8, 4)), images(4)
    with torch.no_grad():
        model.first.weight[0] *= 30
        model.last.weight[:, 0] /= 30
    prepared = engine.prepare(model, replace(X86, name="even", weight_granularity="per_tensor", equalization=True))
    engine.calibrate(prepared, [x])
    quantized = engine.convert(prepared)
    rows = {row.name: row for row in engine.inspect(quantized, prepared, x).layers}
    assert all(row.alone_db > 25 for row in rows.values())
    assert rows["first"].weight_db > 25
    with pytest.raises(QuantizationError, match="inspect: qconfig even changed the float weights"):
        engine.inspect(quantized, model, x)


def test_a_channel_is_dead_only_if_it_says_the_same_in_every_batch() -> None:
    channels = Channels(1)
    for level in (7, 9, 7):
        batch = torch.full((2, 3, 4, 4), 5, dtype=torch.uint8)
        batch[:, 1] = level
        channels.add(torch.zeros(2, 3, 4, 4), batch, None)
    assert (channels.count, channels.dead, channels.clipped_percent) == (3, 2, None)
