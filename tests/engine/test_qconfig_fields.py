"""Every field of a QConfig shows in the int8 model, and what would have no effect is an error."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.nets import images, residual_net
from pytest_ptq import engine
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.errors import UnknownNameError, UsageError
from pytest_ptq.qconfig import FASTEST, PRESETS, RUNTIMES, QConfig, base_name, get_qconfig, in_runtime, in_runtimes

BASE = QConfig("base", activation_observer="minmax", reduce_range=False)
BATCHES = [images(16, 32) ** 3, images(4, 32, seed=2) ** 3 / 4]
"""Long tails, so that a range may gain from being clipped, and a second batch unlike the first."""


def quantized(qconfig: QConfig) -> QuantizedModule:
    return engine.quantize(residual_net(), BATCHES, qconfig)


def parameters(model: QuantizedModule) -> tuple[object, ...]:
    """All that makes an int8 model compute what it does."""
    state = tuple((k, tuple(v.flatten().tolist())) for k, v in model.state_dict().items())
    return state, tuple(model.stored.items()), model.plan.fp32_layers


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        f"activation_observer={name}": ({}, {"activation_observer": name})
        for name in ("moving_average", "histogram", "percentile", "entropy", "mse")
    },
    "activation_scheme": ({}, {"activation_scheme": "symmetric"}),
    "percentile": ({"activation_observer": "percentile"}, {"percentile": 90.0}),
    "observer_search": ({"activation_observer": "entropy"}, {"observer_search": ("minmax", "histogram")}),
    "weight_granularity": ({}, {"weight_granularity": "per_tensor"}),
    "weight_observer": ({}, {"weight_observer": "mse"}),
    "weight_observer of a whole weight": ({"weight_granularity": "per_tensor"}, {"weight_observer": "mse"}),
    "reduce_range": ({}, {"reduce_range": True}),
    "fp32_layers": ({}, {"fp32_layers": ("conv2",)}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_field_changes_the_model(name: str) -> None:
    before, change = CHANGES[name]
    base = replace(BASE, **before)
    assert parameters(quantized(base)) == parameters(quantized(base)), "what is compared is reproducible"
    assert parameters(quantized(base)) != parameters(quantized(replace(base, **change)))


def test_observers_differ_from_each_other() -> None:
    names = ("minmax", "moving_average", "histogram", "percentile", "entropy", "mse")
    found = [parameters(quantized(replace(BASE, activation_observer=name))) for name in names]
    for i, one in enumerate(found):
        assert one not in found[:i], names[i]


def test_symmetric_activations_have_their_zero_in_the_middle_or_at_0() -> None:
    for told, middle in ((False, 128), (True, 128)):
        model = quantized(replace(BASE, activation_scheme="symmetric", reduce_range=told))
        assert {name: q.zero_point for name, q in model.stored.items()} == {
            "x": middle, "conv1": 0, "conv2": 0, "pool": 0, "flatten": 0,
        }  # fmt: skip


def test_clipped_weights_err_less() -> None:
    weight = residual_net().fc.weight
    with torch.no_grad():
        for granularity in ("per_tensor", "per_channel"):
            errors = {}
            for observer in ("minmax", "mse"):
                layer = quantized(replace(BASE, weight_granularity=granularity, weight_observer=observer)).fc
                stored = layer.weight.double() * layer.scales.double().view(-1, 1)
                errors[observer] = float((stored - weight.double()).square().sum())
            assert errors["mse"] < errors["minmax"]


def test_a_clipped_weight_leaves_the_model_and_fp32_layers_alone() -> None:
    model = residual_net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fused = engine.fuse(model)
    kept = replace(BASE, weight_observer="mse", fp32_layers=("conv2",))
    weight = fused.conv2.weight.clone()
    int8 = engine.quantize(fused, BATCHES, kept)
    assert torch.equal(int8.conv2.weight, weight)
    assert torch.equal(fused.conv2.weight, weight)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("runtime", [*RUNTIMES, FASTEST])
def test_the_runtime_changes_nothing_in_how_a_model_is_quantized(runtime: str) -> None:
    elsewhere = in_runtime(BASE, runtime)
    assert elsewhere.runtime == runtime
    assert parameters(quantized(elsewhere)) == parameters(quantized(BASE))


@pytest.mark.parametrize("runtime", [*RUNTIMES, FASTEST])
def test_a_name_says_the_runtime_unless_it_is_torch(runtime: str) -> None:
    elsewhere = in_runtime(BASE, runtime)
    assert elsewhere.name == ("base" if runtime == "torch" else f"base-{runtime}")
    assert base_name(elsewhere.name) == "base"
    assert replace(elsewhere, name=BASE.name, runtime="torch") == BASE


def test_qconfigs_are_repeated_for_each_runtime_unless_they_say_theirs() -> None:
    pinned = QConfig("mine", runtime="openvino")
    names = [q.name for q in in_runtimes((BASE, pinned, BASE), ("torch", "fastest", "openvino", "torch"))]
    assert names == ["base", "base-fastest", "base-openvino", "mine"]
    assert [q.runtime for q in in_runtimes((BASE,), ("all",))] == list(RUNTIMES)
    with pytest.raises(UsageError, match="two qconfigs are called 'base-openvino'"):
        in_runtimes((BASE, QConfig("base-openvino", runtime="openvino")), ("openvino",))


def test_a_preset_is_known_by_its_name_in_a_runtime() -> None:
    assert get_qconfig("x86-openvino") == in_runtime(PRESETS["x86"], "openvino")
    assert get_qconfig("fbgemm-onnxruntime").name == "x86-onnxruntime"
    assert get_qconfig("own-fastest", {"own": BASE}).runtime == "fastest"
    with pytest.raises(UnknownNameError, match="unknown qconfig 'x8-openvino'"):
        get_qconfig("x8-openvino")


def test_a_name_may_not_say_another_runtime() -> None:
    for runtime, name in (("torch", "q-openvino"), ("onnxruntime", "q-openvino"), ("openvino", "q-onnxruntime")):
        with pytest.raises(UsageError, match=f"the name says .*, and the model would run in {runtime}. Write runtime="):
            QConfig(name, runtime=runtime)
    assert QConfig("q-fastest", runtime="openvino").runtime == "openvino", "a measurement chose it"
    assert QConfig("q", runtime="openvino").name == "q"
    assert QConfig("openvino").runtime == "torch", "no more than a name"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_quantize(name: str) -> None:
    x = BATCHES[0]
    with torch.inference_mode():
        model, reference = engine.quantize(residual_net(), BATCHES, name), residual_net()(x)
        assert float((model(x) - reference).abs().max()) < 0.25 * float(reference.abs().max())
    assert model.qconfig.name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"activation_observer": "entrpy"},
            r"qconfig q: unknown activation observer 'entrpy'\. Did you mean 'entropy'",
        ),
        ({"activation_observer": None}, r"qconfig q: the activation observer is None\. Known: minmax, "),
        ({"activation_scheme": "symmetrical"}, r"unknown activation scheme.*Did you mean 'symmetric'"),
        ({"weight_observer": "entropy"}, r"unknown weight observer 'entropy'\. Known: minmax, mse"),
        ({"runtime": "openvin"}, r"qconfig q: unknown runtime 'openvin'\. Did you mean 'openvino'"),
        ({"runtime": None}, r"qconfig q: the runtime is None\. Known: torch, onnxruntime, openvino, fastest"),
        ({"weight_granularity": "per_row"}, "unknown weight granularity 'per_row'"),
        ({"percentile": 99.0}, "percentile has no effect on the histogram observer"),
        *(
            ({"activation_observer": "percentile", "percentile": bad}, "percentile is .* Give percent above 50")
            for bad in (50.0, 100.1, -1, float("nan"), "99", True)
        ),
        *(
            ({"fp32_layers": bad}, rf"qconfig q: fp32_layers is {re.escape(repr(bad))}\. Give a tuple of module paths")
            for bad in ("a", ["a"], None, (1,), ("a", b"b"), {"a"})
        ),
        *(
            ({"reduce_range": bad}, rf"reduce_range is {re.escape(repr(bad))}\. Give True, False or None\.$")
            for bad in ("yes", 1, 0, [])
        ),
    ],
)
def test_what_cannot_be_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, UnknownNameError), match=message) as caught:
        QConfig("q", **change)
    assert "\n" not in str(caught.value)


def test_every_field_is_in_one_of_these_tests_or_in_those_of_its_correction() -> None:
    tested = {name for before, change in CHANGES.values() for name in (*before, *change)} | {"name", "runtime"}
    here = Path(__file__)
    others = "".join(path.read_text(encoding="utf-8") for path in here.parent.glob("test_*.py") if path != here)
    assert [f.name for f in fields(QConfig) if f.name not in tested and f"{f.name}=" not in others] == []
