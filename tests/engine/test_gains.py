"""What each layer would gain by staying in fp32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.nets import Net, conv, images, residual_net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.inspect import (
    gains,
    inspect_layers,
    sqnr_db,
)
from pytest_ptq.qconfig import X86


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
    rows = gains(fused, quantized, calibration, inspect_layers(fused, quantized, x), x)
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
    rows = gains(prepared.fused, quantized, calibration, inspect_layers(prepared.fused, quantized, x), x)
    assert [row.gain_db for row in rows] == [None]


def test_gains_of_a_corrected_model_do_not_count_the_correction() -> None:
    model, x = residual_net(), images(8)
    qconfig = replace(X86, name="mended", weight_granularity="per_tensor", bias_correction=True)
    prepared = engine.prepare(model, qconfig)
    calibration = engine.calibrate(prepared, [x])
    quantized = engine.convert(prepared, batches=[x])
    layer = quantized.get_submodule("fc")
    layer.scales.mul_(4)
    layer._prepare()  # whatever was done to it afterwards
    plain = engine.convert(engine.prepare(model, replace(qconfig, bias_correction=False)), calibration)
    for corrected, uncorrected in zip(
        gains(prepared.fused, quantized, calibration, inspect_layers(prepared.fused, plain, x), x),
        gains(prepared.fused, plain, calibration, inspect_layers(prepared.fused, plain, x), x),
        strict=True,
    ):
        assert corrected.gain_db == pytest.approx(uncorrected.gain_db)


def test_gains_of_a_rounded_model_are_those_of_its_own_weights() -> None:
    """What the search gained is no gain of leaving a layer in fp32, and is not lost in the candidates."""
    model, x = residual_net(), images(8)
    qconfig = replace(X86, name="rounded", rounding=600.0)
    prepared = engine.prepare(model, qconfig)
    calibration = engine.calibrate(prepared, [x])
    quantized = engine.convert(prepared, calibration, batches=[x])
    quantized.get_submodule("conv2").weight.fill_(1)  # stands for any weights that a search may have found
    quantized.get_submodule("conv2")._prepare()
    rows = gains(prepared.fused, quantized, calibration, inspect_layers(prepared.fused, quantized, x), x)
    gain = {row.name: row.gain_db for row in rows}
    assert gain["conv2"] > 15
    without = replace(qconfig, rounding=None, fp32_layers=("conv2",))
    alone = engine.convert(engine.prepare(model, without), calibration)
    for path in ("conv1", "fc"):
        put = quantized.get_submodule(path).weight
        alone.get_submodule(path).weight.copy_(put)
        alone.get_submodule(path)._prepare()
    expected = sqnr(run(model, x), run(alone, x)) - sqnr(run(model, x), run(quantized, x))
    assert gain["conv2"] == pytest.approx(expected, abs=0.05)
