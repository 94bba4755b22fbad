"""Fusion: what is folded, and that it computes the same."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from engine.nets import Net, conv, images, layers, randomize, residual_net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.blocks import ConvBlock
from pytest_ptq.engine.capture import CapturedModule, capture
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.errors import CaptureError


def assert_equal(model: nn.Module, x: Tensor) -> FusedModule:
    """Fuse, and hold the result against the model: 1e-4 of the largest output."""
    fused = engine.fuse(model)
    expected = run(model, x)
    torch.testing.assert_close(run(fused, x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    return fused


ACTIVATIONS = {
    "ReLU": (nn.ReLU(), F.relu, torch.relu, lambda x: x.relu()),
    "ReLU6": (nn.ReLU6(), F.relu6),
    "Hardswish": (nn.Hardswish(), F.hardswish),
    "Hardsigmoid": (nn.Hardsigmoid(), F.hardsigmoid),
}
CASES = [(name, i) for name, forms in ACTIVATIONS.items() for i in range(len(forms))]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("name", "form"), CASES)
def test_an_activation_is_taken_in(name: str, form: int, norm: bool) -> None:
    given = ACTIVATIONS[name][form]
    as_layer = {"act": given} if isinstance(given, nn.Module) else {}
    bn: nn.Module = nn.BatchNorm2d(8) if norm else nn.Identity()
    model = Net(
        lambda m, x: (m.act if as_layer else given)(m.bn(m.conv(x))), conv=conv(3, 8, bias=not norm), bn=bn, **as_layer
    )
    title = "ReLU" if name == "ReLU6" else name
    assert layers(assert_equal(model, images())) == [f"Conv{title}2d conv"]


@pytest.mark.parametrize(
    "options", [{"stride": 2}, {"dilation": 2}, {"groups": 3}, {"padding": 0}, {"padding": "same"}]
)
def test_batch_norm_is_folded_into_any_convolution(options: dict[str, object]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, **options), nn.BatchNorm2d(6))  # type: ignore[arg-type]
    assert layers(assert_equal(randomize(model), images())) == ["Conv2d 0"]


@pytest.mark.parametrize("affine", [True, False])
def test_a_dead_channel_is_folded_in_float64(affine: bool) -> None:
    model = randomize(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, eps=1e-10, affine=affine)))
    model[1].running_var[2] = 1e-9
    assert_equal(model, images())


def test_a_batch_norm_without_statistics_stays() -> None:
    model = randomize(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, track_running_stats=False)))
    assert layers(assert_equal(model, images())) == ["Conv2d 0", "BatchNorm2d 1"]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
def test_a_residual_is_taken_in(relu: bool, swapped: bool) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        a, b = m.first(x), m.bn(m.second(m.first(x)))
        y = a + b if swapped else torch.add(b, a)
        return F.relu(y) if relu else y

    model = Net(compute, first=conv(3, 8), second=conv(8, 8), bn=nn.BatchNorm2d(8))
    found = layers(assert_equal(model, images()))
    assert sorted(found) == sorted(["Conv2d first#2", "Conv2d second", f"ConvAdd{'ReLU' if relu else ''}2d first"])


def test_two_convolutions_that_are_added() -> None:
    model = Net(lambda m, x: F.relu(m.a(x) + m.b(x)), a=conv(3, 8), b=conv(3, 8, 1))
    assert layers(assert_equal(model, images())) == ["Conv2d b", "ConvAddReLU2d a"]


def test_a_residual_is_not_taken_in_behind_an_activation() -> None:
    model = Net(lambda m, x: F.relu(m.conv(x)) + x, conv=conv(3, 3))
    assert layers(assert_equal(model, images())) == ["ConvReLU2d conv"]


def test_relu6_behind_an_addition_stays_outside() -> None:
    model = Net(lambda m, x: F.relu6(m.conv(x) + x), conv=conv(3, 3))
    fused = assert_equal(model, images())
    assert layers(fused) == ["ConvAdd2d conv"]
    assert "relu6" in str(fused.graph)


@pytest.mark.parametrize(
    "add",
    [
        lambda a, b: torch.add(a, b, alpha=2),
        lambda a, b: a + 1.5,
        lambda a, b: a + a,
        lambda a, b: a - b,
        lambda a, b: b + (a * 2),
    ],
)
def test_what_is_no_plain_addition_of_two_tensors_stays_outside(add: Callable[..., Tensor]) -> None:
    model = Net(lambda m, x: add(m.conv(x), x), conv=conv(3, 3))
    assert layers(assert_equal(model, images())) == ["Conv2d conv"]


def test_linear_and_relu() -> None:
    model = randomize(nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 4, bias=False)))
    assert layers(assert_equal(model, images(2, 4))) == ["Flatten 0", "LinearReLU 1", "Linear 3"]


def test_what_somebody_else_reads_is_not_taken_in() -> None:
    model = Net(lambda m, x: (y := m.conv(x)) * F.relu(y), conv=conv(3, 8))
    assert layers(assert_equal(model, images())) == ["Conv2d conv"]
    model = Net(lambda m, x: (y := m.conv(x)) * m.bn(y), conv=conv(3, 8), bn=nn.BatchNorm2d(8))
    assert layers(assert_equal(model, images())) == ["Conv2d conv", "BatchNorm2d bn"]
    model = Net(lambda m, x: F.relu(z := m.bn(m.conv(x))) * z, conv=conv(3, 8), bn=nn.BatchNorm2d(8))
    assert layers(assert_equal(model, images())) == ["Conv2d conv"]
    model = Net(lambda m, x: (m.conv(x) + x, m.conv(x))[0] * (y := m.conv(x)) + F.relu(y + x), conv=conv(3, 3))
    assert_equal(model, images())


def test_a_convolution_that_both_sides_of_an_addition_read() -> None:
    """The residual is computed from the convolution itself: it cannot run before it."""
    model = Net(lambda m, x: (y := m.conv(x)) + m.last(y), conv=conv(3, 8), last=conv(8, 8))
    assert layers(assert_equal(model, images())) == ["Conv2d conv", "ConvAdd2d last"]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [2, 4, (2, 3)])
def test_padding_that_is_not_symmetric_stays_outside(kernel: object) -> None:
    model = randomize(nn.Sequential(nn.Conv2d(3, 4, kernel, padding="same"), nn.ReLU()))  # type: ignore[arg-type]
    assert not any(isinstance(m, ConvBlock) for m in assert_equal(model, images()).modules())


def test_padding_that_is_not_zeros_stays_outside() -> None:
    model = randomize(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")))
    assert layers(assert_equal(model, images())) == ["Conv2d 0"]
    assert isinstance(engine.fuse(model).get_submodule("0"), nn.Conv2d)


def test_a_layer_of_the_users_own_is_not_taken_for_torchs() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model = randomize(nn.Sequential(Doubled(3, 4, 3), nn.ReLU()))
    assert_equal(model, images())


def test_what_does_nothing_in_eval_mode_is_removed() -> None:
    model = randomize(nn.Sequential(nn.Identity(), conv(3, 4), nn.Dropout(0.5), nn.ReLU(), nn.Dropout2d(0.5)))
    assert layers(assert_equal(model, images())) == ["ConvReLU2d 1"]
    model = Net(lambda m, x: F.dropout(m.conv(x), 0.5, m.training), conv=conv(3, 4))
    assert layers(assert_equal(model, images())) == ["Conv2d conv"]


def test_dropout_that_drops_in_eval_mode_too_stays() -> None:
    """F.dropout without training=self.training is a mistake, but fp32 makes it as well."""
    model = Net(lambda m, x: m.last(F.dropout(m.conv(x), 1.0)), conv=conv(3, 4), last=conv(4, 4))
    fused = assert_equal(model, images())
    assert "dropout" in str(fused.graph)
    quantized = engine.quantize(fused, [images()])
    assert quantized.plan.fp32_layers == (("dropout", "drops values also in eval mode"),)


def test_stochastic_depth_is_removed() -> None:
    model = randomize(models.efficientnet_b0(num_classes=4))
    fused = assert_equal(model, images(1, 32))
    assert "stochastic_depth" not in str(fused.graph)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
def test_torchvision_models(name: str) -> None:
    model = randomize(models.get_model(name, num_classes=10))
    fused = assert_equal(model, images(2, 32))
    assert "BatchNorm" not in str(fused)
    assert all(title in str(fused) for title in {"resnet18": ["ConvAddReLU2d", "ConvReLU2d"]}.get(name, ["ConvAdd2d"]))


def test_fusing_leaves_the_earlier_stage_as_it_was() -> None:
    captured = engine.capture.capture(residual_net())
    before, x = str(captured), images()
    expected = run(captured, x)
    engine.fuse(captured)
    assert str(captured) == before
    assert torch.equal(run(captured, x), expected)


def test_of_the_copy_that_is_captured_no_folded_weight_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model, weights = residual_net(), list[weakref.ref[Tensor]]()

    def watched(given: nn.Module) -> CapturedModule:
        captured = capture(given)
        weights.extend(weakref.ref(m.weight) for m in captured.modules() if isinstance(m, nn.Conv2d))
        return captured

    monkeypatch.setattr(importlib.import_module("pytest_ptq.engine.fuse"), "capture", watched)
    gc.disable()
    try:
        fused = engine.fuse(model)
        assert weights
        assert not any(weight() is not None for weight in weights), "at once, and not when Python collects"
    finally:
        gc.enable()
    x = images()
    torch.testing.assert_close(run(fused, x), run(model, x), rtol=1e-4, atol=1e-4)


def test_a_batch_norm_behind_a_linear_layer() -> None:
    model = Net(lambda m, x: m.b(F.relu(m.norm(m.a(x)))), a=nn.Linear(16, 8), norm=nn.BatchNorm1d(8), b=nn.Linear(8, 4))
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
    fused = engine.fuse(model)
    assert layers(fused) == ["LinearReLU a", "Linear b"]
    torch.testing.assert_close(run(fused, x), run(model, x), rtol=1e-4, atol=1e-5)
    assert sqnr(run(model, x), run(engine.quantize(model, [x]), x)) > 25


def test_a_batch_norm_behind_a_linear_layer_of_sequences_is_refused() -> None:
    """There it normalises positions: as many as outputs, by chance."""
    model = Net(lambda m, x: m.norm(m.a(x)), a=nn.Linear(16, 8), norm=nn.BatchNorm1d(8))
    with pytest.raises(CaptureError, match=r"normalises dimension 1, which of shape \(2, 8, 16\)"):
        engine.quantize(model, [torch.randn(2, 8, 16)])


def test_functions_with_weights_of_the_model_become_layers() -> None:
    class OwnConv(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            x = F.pad(x, (0, 1, 0, 1))
            return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.relu(m.norm(F.conv2d(m.own(x), m.plain.weight, padding=1, stride=(2, 1))))
        z = F.conv1d(y.flatten(2), weight=m.line.weight, bias=m.line.bias)
        return F.linear(z.mean(2), m.dense.weight, m.dense.bias)

    own = OwnConv(3, 8, 2, groups=1)
    model = Net(
        compute, own=own, plain=nn.Conv2d(8, 8, 3, bias=False), norm=nn.BatchNorm2d(8), line=nn.Conv1d(8, 4, 1),
        dense=nn.Linear(4, 4),
    )  # fmt: skip
    x = images(4)
    fused = engine.fuse(model)
    assert layers(fused) == ["Conv2d own.conv2d", "ConvReLU2d conv2d", "Conv1d conv1d", "Linear linear"]
    torch.testing.assert_close(run(fused, x), run(model, x), rtol=1e-4, atol=1e-5)
    quantized = engine.quantize(model, [x])
    assert not any("conv" in layer or layer == "linear" for layer, _ in quantized.plan.fp32_layers)
    assert not [node for node in quantized.graph.nodes if node.op == "get_attr"], "no weight is kept twice"
    assert sqnr(run(model, x), run(quantized, x)) > 25


def test_a_weight_that_is_computed_stays_in_a_function() -> None:
    model = Net(
        lambda m, x: m.b(F.conv2d(x, m.a.weight * 2, padding=1)), a=conv(3, 8), b=conv(8, 4)
    )  # fmt: skip
    x = images(4)
    quantized = engine.quantize(model, [x])
    assert dict(quantized.plan.fp32_layers)["conv2d"] == "no int8 kernel for conv2d"
    assert sqnr(run(model, x), run(quantized, x)) > 25
