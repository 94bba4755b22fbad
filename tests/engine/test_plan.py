"""The plan: what is int8, what is not and why, and which tensors need a range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import Net, conv, images, partly_fp32_net, residual_net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine import kernels
from pytest_ptq.engine.affine import PAIRED, UINT8
from pytest_ptq.engine.plan import QuantPlan, make_plan
from pytest_ptq.errors import QuantizationError, UnknownNameError
from pytest_ptq.qconfig import X86


def plan(model: nn.Module, **changes: object) -> QuantPlan:
    return make_plan(engine.fuse(model), replace(X86, **changes))  # type: ignore[arg-type]


def test_everything_of_a_residual_net_is_int8() -> None:
    found = plan(residual_net())
    assert found.fp32_layers == ()
    assert [(n.layer, n.op, n.output) for n in found.nodes.values()] == [
        ("conv1", "conv2d", "uint8"), ("conv2", "conv2d", "uint8"), ("pool", "adaptive_avg_pool2d", "uint8"),
        ("flatten", "flatten", "uint8"), ("fc", "linear", "float32"),
    ]  # fmt: skip
    assert found.sources["flatten"] == "pool", "flattening changes no value"


def test_what_has_no_int8_kernel_is_listed_with_the_reason() -> None:
    assert plan(partly_fp32_net()).fp32_layers == (
        ("odd", "no int8 kernel for LogSigmoid"),
        ("norm", "the mean and variance of what it reads are computed in fp32"),
        ("erf", "no int8 kernel for erf"),
        ("mul", "reads fp32 from erf"),
    )


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda m, x: m.conv(x) / m.conv(x), "of two tensors"),
        (lambda m, x: m.conv(x) * x.size(0), "an argument is computed from sizes"),
        (lambda m, x: F.avg_pool2d(m.conv(x), x.size(2)), "its size is computed from sizes"),
        (lambda m, x: torch.max(m.conv(x), 1)[0], "not of two tensors"),
        (lambda m, x: F.pad(m.conv(x), (1, 1), value=2.0), "pads with other than zero"),
        (lambda m, x: F.pad(m.conv(x), (1, 1, 1, 1), "reflect"), "pads by reflect"),
        (lambda m, x: F.interpolate(m.conv(x), scale_factor=2, mode="bilinear"), "bilinear interpolation computes"),
        (lambda m, x: m.conv(x) @ m.conv(x), "multiply an activation by a constant"),
        (lambda m, x: m.up(m.conv(x)), "a dilated transposed convolution is no convolution of its input"),
        (lambda m, x: m.mirrored(m.conv(x)), "padding mode reflect"),
        (lambda m, x: m.conv(x).flatten(1), "moves values that only fp32 reads"),
        (lambda m, x: m.conv(x).mean(), "built for dimensions that are given as numbers"),
        (lambda m, x: torch.add(m.conv(x), m.conv(x), alpha=3), "alpha other than 1"),
        (lambda m, x: F.max_pool2d(m.conv(x), 2, return_indices=True)[0], "no int8 kernel for max_pool2d_with_indices"),
        (lambda m, x: m.pool(m.conv(x))[0], "pooling that returns indices"),
        (lambda m, x: m.conv(x) * x, "reads fp32 from x"),
        (lambda m, x: m.conv(torch.cat([x, x], 2)), "reads fp32 from x"),
    ],
)
def test_reasons(compute: Callable[..., Tensor], reason: str) -> None:
    model = Net(
        compute, conv=conv(3, 3), pool=nn.MaxPool2d(2, return_indices=True),
        up=nn.ConvTranspose2d(3, 3, 2, dilation=2),
        mirrored=nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
    )  # fmt: skip
    x = images()
    reasons = [why for _, why in plan(model).fp32_layers]
    assert any(reason in why for why in reasons), reasons
    assert sqnr(run(model, x), run(engine.quantize(model, [x]), x)) > 25


def test_nothing_to_quantize_is_an_error() -> None:
    model = nn.Sequential(nn.GELU(), nn.LayerNorm(16), nn.ReLU()).eval()
    with pytest.raises(QuantizationError, match=r"nothing to quantize.*Found: gelu, layer_norm, relu\."):
        engine.quantize(model, [images()])
    with pytest.raises(QuantizationError, match=r"nothing to quantize.*Found: no operation\."):
        engine.quantize(nn.Identity().eval(), [images()])
    with pytest.raises(QuantizationError, match="nothing to quantize"):
        plan(residual_net(), fp32_layers=("conv1", "conv2", "fc"))


@pytest.mark.parametrize("layers", [("conv1",), ("conv2",), ("pool",), ("fc",), ("flatten",), ("conv1", "pool")])
def test_one_calibration_serves_every_choice_of_fp32_layers(layers: tuple[str, ...]) -> None:
    model, x = residual_net(), images(4)
    prepared = engine.prepare(model)
    calibration = engine.calibrate(prepared, [x])
    kept = engine.convert(prepared, calibration, replace(X86, fp32_layers=layers))
    assert set(layers) <= set(dict(kept.plan.fp32_layers))
    assert all(dict(kept.plan.fp32_layers)[name] == "kept in fp32 by qconfig x86" for name in layers)
    assert sqnr(run(model, x), run(kept, x)) > 25


def test_more_than_one_layer_of_pooling_needs_its_own_range_once_kept() -> None:
    """Pooling carries the range of what it reads; when that stays in fp32, the convolution behind needs one."""
    model = Net(lambda m, x: m.b(m.pool(m.pool(F.relu(m.a(x))))), a=conv(3, 8), b=conv(8, 8), pool=nn.MaxPool2d(2))
    prepared, x = engine.prepare(model), images()
    calibration = engine.calibrate(prepared, [x])
    for layers in (("a",), ("pool",), ("pool#2",), ("a", "pool")):
        kept = engine.convert(prepared, calibration, replace(X86, fp32_layers=layers))
        assert sqnr(run(model, x), run(kept, x)) > 25


def test_a_path_keeps_all_below_it() -> None:
    model = nn.Sequential(
        nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8)), nn.Sequential(conv(8, 8)), conv(8, 4)
    ).eval()
    assert [name for name, _ in plan(model, fp32_layers=("0",)).fp32_layers] == ["0.0", "0.2"]
    assert [name for name, _ in plan(model, fp32_layers=("0.2", "1")).fp32_layers] == ["0.2", "1.0"]


def test_a_path_that_only_begins_alike_is_not_kept() -> None:
    model = Net(lambda m, x: m.conv10(m.conv1(x)), conv1=conv(3, 8), conv10=conv(8, 8))
    assert [name for name, _ in plan(model, fp32_layers=("conv1",)).fp32_layers] == ["conv1"]


def test_an_unknown_fp32_layer_suggests_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"qconfig x86, fp32_layers: unknown layer 'conv3'\. Did you mean 'conv2'"
    ):
        plan(residual_net(), fp32_layers=("conv3",))


@pytest.mark.parametrize("saturates", [True, False])
def test_reduce_range_follows_the_cpu_unless_told(saturates: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "saturates_int16", lambda: saturates)
    for told, expected in ((None, saturates), (True, True), (False, False)):
        found = plan(residual_net(), reduce_range=told)
        assert found.reduce_range is expected
        assert found.observed["x"].bounds == UINT8, "pixels are 256 numbers"
        assert (PAIRED in {spec.bounds for spec in found.observed.values()}) is expected


def test_only_what_is_added_in_pairs_has_a_reduced_range() -> None:
    """A depthwise convolution has one product a place: nothing is added before int32."""

    def compute(m: Net, x: Tensor) -> Tensor:
        return torch.relu(m.last(m.alone(x)) + x)

    found = plan(Net(compute, alone=conv(8, 8, groups=8), last=conv(8, 8, 1)), reduce_range=True).observed
    assert {name.split("_")[0]: spec.bounds for name, spec in found.items()} == {
        "x": UINT8, "alone": PAIRED, "last": UINT8,
    }  # fmt: skip


def test_weights_follow_the_qconfig() -> None:
    for granularity, distinct in (("per_channel", True), ("per_tensor", False)):
        quantized = engine.quantize(residual_net(), [images()], replace(X86, weight_granularity=granularity))
        assert (len(set(quantized.conv1.scales.tolist())) > 1) is distinct
