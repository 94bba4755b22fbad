"""Conversion: real int8 from end to end, borders only where they must be, and nothing overwritten that is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torchvision import models

from engine.nets import Net, conv, images, partly_fp32_net, randomize, residual_net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine import kernels
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.modules import DeQuantize, Quantize, QuantizedConv2d, QuantizedLinear
from pytest_ptq.qconfig import X86


class Tally:
    """How often each kernel is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.calls = dict.fromkeys(names, 0)
        for name in names:
            monkeypatch.setattr(kernels, name, self._counting(name, getattr(kernels, name)))

    def _counting(self, name: str, kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def counted(*args: object, **kwargs: object) -> Tensor:
            self.calls[name] += 1
            return kernel(*args, **kwargs)

        return counted


def of_kind(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, kind)]


@pytest.mark.parametrize("qconfig", ["x86", "minmax"])
def test_integers_flow_through_resnet18(qconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = randomize(models.resnet18(num_classes=10)), images(4, 32)
    quantized = engine.quantize(model, [x], qconfig)
    assert len(of_kind(quantized, Quantize)) == 1
    assert len(of_kind(quantized, DeQuantize)) == 0
    tally = Tally(monkeypatch, "quantize", "dequantize", "conv2d", "conv2d_add", "linear", "mean", "max_pool")
    y = run(quantized, x)
    assert tally.calls == {
        "quantize": 1, "dequantize": 0, "conv2d": 12, "conv2d_add": 8, "linear": 1, "mean": 1, "max_pool": 1,
    }  # fmt: skip
    assert y.dtype is torch.float32
    assert sqnr(run(model, x), y) > 20
    between = [v for n, v in _values(quantized, x).items() if n not in ("x", "fc", "output")]
    assert all(v.dtype is torch.uint8 for v in between)


def _values(module: fx.GraphModule, x: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            seen[n.name] = value.clone() if isinstance(value, Tensor) else value  # a residual is overwritten
            return value

    with torch.inference_mode():
        Recorder(module).run(x)
    return seen


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small"])
def test_mobile_networks_stay_in_int8(name: str) -> None:
    model, x = randomize(models.get_model(name, num_classes=10)), images(4, 64)
    quantized = engine.quantize(model, [x])
    # V3's classifier has a hardswish that no kernel of a linear layer takes in, or it has: both are int8 up to there.
    assert {layer for layer, _ in quantized.plan.fp32_layers} <= {"classifier.1"}
    assert len(of_kind(quantized, Quantize)) == 1
    assert not of_kind(quantized, DeQuantize)
    assert sqnr(run(model, x), run(quantized, x)) > 8, "of random weights: trained ones keep more"


@pytest.mark.parametrize("make", [residual_net, partly_fp32_net])
def test_the_same_input_gives_the_same_output_and_stays_as_it_was(make: Callable[[], nn.Module]) -> None:
    x = images(3)
    quantized = engine.quantize(make(), [x])
    before = x.clone()
    first = run(quantized, x)
    assert torch.equal(run(quantized, x), first)
    assert torch.equal(x, before)


def test_an_image_does_not_depend_on_its_batch() -> None:
    x = images(4)
    quantized = engine.quantize(residual_net(), [x])
    torch.testing.assert_close(run(quantized, x)[1:2], run(quantized, x[1:2]))


def test_non_contiguous_input() -> None:
    x = images(2, 32)[:, :, ::2, ::2]
    quantized = engine.quantize(residual_net(), [x])
    assert torch.equal(run(quantized, x), run(quantized, x.contiguous()))


def test_one_border_serves_all_who_cross_it() -> None:
    """Two int8 readers of one fp32 value, and two fp32 readers of one int8 value."""

    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.relu(m.a(x))
        z = m.b(x) * y
        return F.gelu(z) + F.silu(z)

    quantized = engine.quantize(Net(compute, a=conv(3, 8), b=conv(3, 8)), [images()])
    assert len(of_kind(quantized, Quantize)) == 1
    assert len(of_kind(quantized, DeQuantize)) == 0, "what only fp32 reads is written in fp32"
    kept = replace(X86, fp32_layers=("b",))
    quantized = engine.quantize(Net(compute, a=conv(3, 8), b=conv(3, 8)), [images()], kept)
    assert len(of_kind(quantized, Quantize)) == 1


def test_an_int8_value_that_both_read() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.relu(m.a(x))
        return m.b(y) + F.logsigmoid(y) + torch.cos(y)

    model, x = Net(compute, a=conv(3, 8), b=conv(8, 8)), images()
    quantized = engine.quantize(model, [x])
    dequantized = [str(n.args[0]) for n in quantized.graph.nodes if "dequantize" in str(n.target)]
    assert len(dequantized) == 2, "what a and b write is int8; one of them has two fp32 readers"
    assert sqnr(run(model, x), run(quantized, x)) > 25


def test_several_outputs() -> None:
    model = Net(lambda m, x: (y := F.relu(m.a(x)), m.b(y)), a=conv(3, 8), b=conv(8, 4))  # type: ignore[arg-type,return-value]
    x = images()
    expected, actual = run(model, x), run(engine.quantize(model, [x]), x)
    assert [sqnr(e, a) > 25 for e, a in zip(expected, actual, strict=True)] == [True, True]


def _read_after(m: Net, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    z = F.relu(m.b(y) + y)
    return m.c(z) + y


def _read_by_a_view(m: Net, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    turned = y.transpose(2, 3)
    z = F.relu(m.b(m.c(y)) + y)
    return m.c(z) + turned


def _read_by_pooling(m: Net, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    z = m.b(y) + F.max_pool2d(y, 1, 1)
    return m.c(z) + y


def _residual_is_the_input_too(m: Net, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    return m.c(F.relu(m.b(y) + y))


def _reshaped(m: Net, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    y = y.reshape(y.size(0), 2, 4, 16, 16).transpose(1, 2).flatten(1, 2)
    z = y * y
    return m.c(F.relu(m.b(y) + z))


def _read_twice(m: Net, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    return (m.b(m.c(y)) + y) + (m.c(m.b(y)) + y)


def _output(m: Net, x: Tensor) -> Tensor:
    y = m.a(x)
    return torch.cat([m.b(F.relu(y)) + y, y], 1)


HAZARDS = [_read_after, _read_by_a_view, _read_by_pooling, _residual_is_the_input_too, _reshaped, _read_twice, _output]


@pytest.mark.parametrize("compute", HAZARDS)
def test_overwriting_a_residual_changes_nothing(compute: Callable[..., Tensor]) -> None:
    model, x = Net(compute, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8)), images()
    quantized = engine.quantize(model, [x])
    first, second = run(quantized, x), run(quantized, x)
    layers = of_kind(quantized, QuantizedConv2d)
    assert any(layer.adds for layer in layers)
    for layer in layers:
        layer.overwrites = False
    assert torch.equal(first, run(quantized, x))
    assert torch.equal(first, second)
    assert sqnr(run(model, x), first) > 25


def test_a_residual_that_nobody_reads_any_more_is_overwritten() -> None:
    model = randomize(models.resnet18(num_classes=10))
    quantized = engine.quantize(model, [images(1, 32)])
    adding = [layer for layer in of_kind(quantized, QuantizedConv2d) if layer.adds]
    assert len(adding) == 8
    assert all(layer.overwrites for layer in adding)


def test_under_reduce_range_no_sum_of_two_products_can_leave_int16() -> None:
    """Also for inputs beyond anything that calibration saw, and with each weight rounded up or down at will."""
    for model in (residual_net(), randomize(models.mobilenet_v3_small(num_classes=4))):
        quantized = engine.quantize(model, [images(2, 32)], replace(X86, reduce_range=True))
        layers = [*of_kind(quantized, QuantizedConv2d), *of_kind(quantized, QuantizedLinear)]
        dense = [layer for layer in layers if layer.weight.shape[1] > 1]
        assert dense
        for layer in dense:
            assert layer.x.quant_max == (255 if layer is dense[0] else 181)
            weight = layer.weight.int().reshape(*layer.weight.shape[:2], -1)
            one, other = F.pad(weight, (0, 0, 0, weight.shape[1] % 2)).unflatten(1, (-1, 2)).unbind(2)
            for sign in (1, -1):
                largest = (sign * one).clamp_min(0) + (sign * other).clamp_min(0)
                assert layer.x.quant_max * (int(largest.max()) + 2) <= 32767
        assert all(layer.x.quant_max == 255 for layer in layers if layer.weight.shape[1] == 1)


def test_reduce_range_is_kept_by_inputs_beyond_calibration() -> None:
    quantized = engine.quantize(residual_net(), [images(2, 32)], replace(X86, reduce_range=True))
    largest: list[int] = []
    for layer in (*of_kind(quantized, QuantizedConv2d), *of_kind(quantized, QuantizedLinear)):
        layer.register_forward_pre_hook(lambda _, read: largest.append(int(read[0].max())))
    run(quantized, images(2, 32, seed=9) * 50)
    assert largest == [255, 181, 181]


def test_reduce_range_costs_less_than_a_bit() -> None:
    model, x = residual_net(), images(4)
    eight, reduced = (
        sqnr(run(model, x), run(engine.quantize(model, [x], replace(X86, reduce_range=r)), x)) for r in (False, True)
    )
    assert reduced > 22
    if not kernels.saturates_int16():
        assert 0 < eight - reduced < 6


def test_saturation_stands_for_relu6_and_hardsigmoid() -> None:
    """The scale ends at the ceiling, so the kernel needs no post-op; outside what was calibrated too."""
    for act, ceiling in ((nn.ReLU6(), 6.0), (nn.Hardsigmoid(), 1.0)):
        model = Net(lambda m, x: m.last(m.act(m.first(x))), first=conv(3, 8), act=act, last=conv(8, 4))
        x = images() * 4
        quantized = engine.quantize(model, [x], replace(X86, reduce_range=False))
        first = quantized.first
        assert first._out[3] == "none"
        assert first.out.zero_point == 0
        assert first.out.scale * 255 <= ceiling * 1.0001
        if not kernels.saturates_int16():
            assert sqnr(run(model, x * 2), run(quantized, x * 2)) > 15


def test_the_kind_of_what_comes_back() -> None:
    quantized = engine.quantize(residual_net(), [images()])
    assert isinstance(quantized, QuantizedModule)
    assert not quantized.training
    assert quantized.qconfig is X86
    assert set(quantized.stored) >= {"conv1", "conv2", "pool"}


def test_a_copy_is_a_model_of_its_own() -> None:
    import copy

    x = images()
    quantized = engine.quantize(residual_net(), [x])
    before = run(quantized, x)
    twin = copy.deepcopy(quantized)
    assert torch.equal(run(twin, x), before)
    assert engine.size_mb(twin) == engine.size_mb(quantized)
    twin.conv1.scales.mul_(4)
    twin.conv1._prepare()
    assert not torch.equal(run(twin, x), before)
    assert torch.equal(run(quantized, x), before)
