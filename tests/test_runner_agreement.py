"""Another runtime held against torch on a tiny suite; whatever goes wrong on purpose is caught, and the layer named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from plugin.tiny_suite import Noise, Tiny

from pytest_ptq import engine
from pytest_ptq.metrics import NOWHERE, Parting
from pytest_ptq.qconfig import X86, QConfig, in_runtime
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import Suite, Variant

RUNTIMES = ("onnxruntime", "openvino")
FLIPS, STEPS = "agreement_flips_percent", "agreement_steps"


def tiny_run(*, top1: bool = True) -> SuiteRun:
    variants = {"embedded": Variant(model=Tiny(), data=Noise())}
    return SuiteRun(Suite(name="tiny", variants=variants, latency_shape=(1, 3, 8, 8)), threads=1)


def tampered(monkeypatch: pytest.MonkeyPatch, change: Callable[[onnx.ModelProto], None]) -> None:
    """Every file that is exported from here on is changed."""
    export = engine.export_onnx

    def export_changed(model: Any, path: Path, *args: Any, **more: Any) -> Path:
        written = export(model, path, *args, **more)
        proto = onnx.load(str(written))
        change(proto)
        onnx.save(proto, str(written))
        return written

    monkeypatch.setattr("pytest_ptq.engine.export.export_onnx", export_changed)


def scale_weights(layer: str, factor: float) -> Callable[[onnx.ModelProto], None]:
    """Multiply the scales of a layer's weights, as a kernel that mistakes them would."""

    def change(proto: onnx.ModelProto) -> None:
        stored = {tensor.name: tensor for tensor in proto.graph.initializer}
        hits = 0
        for node in proto.graph.node:
            if node.op_type == "DequantizeLinear" and f".{node.input[0]}".endswith(f".{layer}.weight"):
                scale = stored[node.input[1]]
                scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * factor, scale.name))
                hits += 1
        assert hits == 1, [t.name for t in proto.graph.initializer]

    return change


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_same_model_agrees(runtime: str) -> None:
    run, qconfig = tiny_run(), in_runtime(X86, runtime)
    found = run.measure("agreement", qconfig)
    assert found[FLIPS].value == 0.0
    assert found[FLIPS].samples == 64
    assert found[STEPS].value < 3
    parting = run.parting(qconfig, run.evaluation.images((0, 5, 63)))
    assert (parting.parts_at, parting.images) == (NOWHERE, 3)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("layer", ["0", "3"])
def test_a_wrong_scale_is_caught_and_its_layer_named(monkeypatch: pytest.MonkeyPatch, runtime: str, layer: str) -> None:
    tampered(monkeypatch, scale_weights(layer, 1.5))
    found = tiny_run().measure("agreement", in_runtime(X86, runtime))
    parting = Parting.of(found[STEPS])
    assert found[STEPS].value > 3
    assert parting is not None
    assert (parting.parts_at, parting.kind) == (layer, "conv2d")
    assert parting.most_steps > 2
    assert 0 < parting.values <= parting.of_values


def test_the_last_layer_answers_in_float_and_no_integers_part(monkeypatch: pytest.MonkeyPatch) -> None:
    tampered(monkeypatch, scale_weights("8", 3.0))
    found = tiny_run().measure("agreement", in_runtime(X86, "onnxruntime"))
    parting = Parting.of(found[STEPS])
    assert found[STEPS].value > 25
    assert parting is not None
    assert parting.parts_at == NOWHERE


def test_logits_that_were_compared_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run, qconfig = tiny_run(), in_runtime(X86, "onnxruntime")
    alone = tiny_run().measure("agreement", qconfig)
    for one in (X86, qconfig):
        run.measure("accuracy", one)
    monkeypatch.setattr(type(run.evaluation), "answers", lambda *_: pytest.fail("computed again"))
    again = run.measure("agreement", qconfig)
    assert {k: m.value for k, m in again.items()} == pytest.approx({k: m.value for k, m in alone.items()})


def test_a_layer_is_asked_on_what_the_other_runtime_gave_it() -> None:
    from pytest_ptq.engine.export import run_quantized
    from pytest_ptq.engine.inspect.given import run_on_given

    data = Noise().load()
    quantized = engine.quantize(Tiny().build(), data.calibration())
    x = data.images[:4]
    plain = run_quantized(quantized, x)
    same = run_on_given(quantized, x, plain)
    assert list(same) == list(plain)
    assert all(torch.equal(same[path], plain[path]) for path in plain)
    first = next(path for path in plain if path == "0")
    moved = {**plain, first: (plain[first].int() + 9).clamp(0, 255).to(torch.uint8)}
    found = run_on_given(quantized, x, moved)
    assert torch.equal(found[first], plain[first])
    assert not torch.equal(found["3"], plain["3"])


def test_the_output_s_scale_is_known_where_it_is_stored() -> None:
    from torch import nn

    from pytest_ptq.engine.inspect.output import output_scale

    torch.manual_seed(0)
    images = torch.rand(8, 3, 8, 8)
    convolutions = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU()).eval()
    quantized = engine.quantize(convolutions, [images], qconfig=QConfig("minmax", activation_observer="minmax"))
    scale = output_scale(quantized)
    answer = quantized(images)
    if scale is not None:
        assert torch.allclose(answer / scale, (answer / scale).round(), atol=1e-3)
    assert output_scale(engine.quantize(Tiny().build(), Noise().load().calibration())) is None
