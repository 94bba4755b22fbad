"""The staged API, as people know it: what each stage prints, and what it says when given the wrong thing."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torchvision import models

from engine.nets import images, randomize, residual_net, run
from pytest_ptq import engine
from pytest_ptq.errors import QuantizationError, UnknownNameError
from pytest_ptq.qconfig import MINMAX, X86, QConfig

NUMBER = r"-?[\d.]+(e-?\d+)?"


@pytest.fixture(scope="module")
def mobilenet() -> nn.Module:
    return randomize(models.mobilenet_v2(num_classes=10))


def test_a_prepared_model_prints_observers_and_then_their_ranges() -> None:
    prepared = engine.prepare(residual_net())
    assert str(prepared).count("HistogramObserver(nothing observed yet)") == 5
    engine.calibrate(prepared, [images()])
    text = str(prepared)
    assert text.startswith("PreparedModule(\n")
    assert len(re.findall(rf"\(observer\): HistogramObserver\(min_val={NUMBER}, max_val={NUMBER}\)", text)) == 5
    assert "nothing observed" not in text
    assert "ConvReLU2d(\n    3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)\n" in text
    assert text.count("conv1") == 1, "every layer once"
    assert "MinMaxObserver" in str(engine.prepare(residual_net(), "minmax"))


def test_a_converted_mobilenet_prints_what_a_person_expects(mobilenet: nn.Module) -> None:
    text = str(engine.quantize(mobilenet, [images(2, 32)]))
    line = (
        r"\(0\): QuantizedConvReLU2d\(32, 32, kernel_size=\(3, 3\), stride=\(1, 1\), "
        rf"scale={NUMBER}, zero_point=0, padding=\(1, 1\), groups=32\)"
    )
    block = text[text.index("(features)") :]
    block = block[block.index("(1): ") :]
    assert re.search(line, block[: block.index("(2): ")])
    assert re.search(r"\(1\): QuantizedLinear\(in_features=1280, out_features=10, output=float32\)", text)
    assert "ReLU6" not in text


def test_layers_print_in_the_order_in_which_data_meets_them(mobilenet: nn.Module) -> None:
    """torch.fx would sort them by the depth of their path: the last layer first."""
    quantized = engine.quantize(mobilenet, [images(2, 32)])
    printed = [name for name, module in quantized.named_modules() if not list(module.children())]
    called = [str(n.target) for n in quantized.graph.nodes if n.op == "call_module"]
    assert printed == called
    assert printed[0] == "x.quantize"
    assert printed[-1] == "classifier.1"


@pytest.mark.parametrize(("alias", "meant"), [("default", MINMAX), ("fbgemm", X86), ("minmax", MINMAX), ("x86", X86)])
def test_names_that_people_know(alias: str, meant: QConfig) -> None:
    x = images()
    by_name, by_value = (engine.quantize(residual_net(), [x], q) for q in (alias, meant))
    assert by_name.qconfig == meant
    assert torch.equal(run(by_name, x), run(by_value, x))


def test_minmax_and_x86_differ() -> None:
    x = images()
    one, other = (engine.quantize(residual_net(), [x], q) for q in ("minmax", "x86"))
    assert not torch.equal(run(one, x), run(other, x))


def test_an_unknown_qconfig_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown qconfig 'x68'. Did you mean 'x86'\?"):
        engine.quantize(residual_net(), [images()], "x68")


def test_stages_by_hand_give_what_one_call_gives() -> None:
    x = images()
    fused = engine.fuse(residual_net())
    prepared = engine.prepare(fused, "x86")
    calibration = engine.calibrate(prepared, [x])
    expected = run(engine.quantize(residual_net(), [x], "x86"), x)
    assert torch.equal(run(engine.convert(prepared), x), expected)
    assert torch.equal(run(engine.convert(prepared, calibration), x), expected)
    assert torch.equal(
        run(engine.convert(prepared, qconfig="minmax"), x), run(engine.quantize(residual_net(), [x], MINMAX), x)
    )


def test_a_prepared_model_computes_what_the_model_does_and_observes_when_called_by_hand() -> None:
    model, x = residual_net(), images()
    prepared = engine.prepare(model)
    torch.testing.assert_close(run(prepared, x), run(model, x), rtol=1e-4, atol=1e-4)
    expected = engine.prepare(model)
    engine.calibrate(expected, [x])
    assert torch.equal(run(engine.convert(prepared), x), run(engine.convert(expected), x))


def test_the_wrong_object_says_what_was_expected() -> None:
    model, x = residual_net(), images()
    quantized = engine.quantize(model, [x])
    with pytest.raises(
        QuantizationError, match=r"^calibrate: calibrate was given a Net\. .*what prepare\(model, qconfig\)"
    ):
        engine.calibrate(model, [x])  # type: ignore[arg-type]
    with pytest.raises(QuantizationError, match=r"^convert: convert was given a Net\. "):
        engine.convert(model)  # type: ignore[arg-type]
    with pytest.raises(QuantizationError, match=r"^convert: convert was given a ConvertedModule\. "):
        engine.convert(quantized)  # type: ignore[arg-type]


def test_converting_before_calibrating_says_so() -> None:
    with pytest.raises(QuantizationError, match=r"no calibration data reached it\. Calibrate before converting"):
        engine.convert(engine.prepare(residual_net()))


def test_size() -> None:
    model = models.resnet18(num_classes=10).eval()
    quantized = engine.quantize(model, [images(1, 32)])
    assert engine.size_mb(model) == pytest.approx(44.8, abs=0.2)
    assert 3.7 < engine.size_mb(model) / engine.size_mb(quantized) < 4.05
