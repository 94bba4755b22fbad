"""Normalization: in-place operations, shared layers, sizes and keyword arguments come in one form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import Net, conv, images, layer_names, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.capture import capture
from pytest_ptq.errors import CaptureError


def _method(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    y.relu_()
    return m.last(y) + y


def _function(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    torch.relu_(y)
    return m.last(y) + y


def _flag(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    F.relu(y, inplace=True)
    return m.last(y) + y


def _positional_flag(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    F.relu(y, True)
    return m.last(y) + y


def _module(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.relu(y)
    return m.last(y) + y


def _twice(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.relu(y)
    z = m.last(y)
    m.relu(z)
    return z + y


def _assignment(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    y += m.last(y)
    y *= 0.5
    return F.relu(y, inplace=True)


def _clamped(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    y.clamp_(0.1, 0.7)
    return m.last(y) - y


def _before_and_after(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    early = m.last(y)
    y.relu_()
    return early + y


def _on_the_input(m: Net, x: Tensor) -> Tensor:
    x += 1
    return m.conv(m.relu(x)) + m.conv(x)


def _another_name(m: Net, x: Tensor) -> Tensor:
    y = same = m.conv(x)
    y += m.last(y)
    return same * y


def _sizes(m: Net, x: Tensor) -> Tensor:
    height = before = x.size(2)
    height += 2
    return m.conv(x) * height / before


def _functional_on_a_view(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x).flatten(2)
    return F.relu(y, inplace=True) + y


IN_PLACE = [
    _method, _function, _flag, _positional_flag, _module, _twice, _assignment, _clamped, _before_and_after,
    _on_the_input, _functional_on_a_view, _another_name, _sizes,
]  # fmt: skip


def net(compute: Callable[..., Tensor]) -> Net:
    return Net(compute, conv=conv(3, 8), last=conv(8, 8), relu=nn.ReLU(inplace=True))


@pytest.mark.parametrize("compute", IN_PLACE)
def test_what_is_changed_in_place_is_changed_for_later_readers(compute: Callable[..., Tensor]) -> None:
    model, x = net(compute), images()
    expected = run(model, x.clone())
    for stage in (capture(model), engine.fuse(model), engine.freeze(model)):
        given = x.clone()
        torch.testing.assert_close(run(stage, given), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(given, x), "the input tensor is changed"
    given = x.clone()
    assert sqnr(expected, run(engine.quantize(model, [given]), given)) > 25
    assert torch.equal(given, x)


def _view_of_it(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    y[:, :2].relu_()
    return m.last(y)


def _it_of_a_view(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    half = y[:, :2]
    y.relu_()
    return m.last(y) + half.mean()


def _view_of_a_view(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    a, b = y.chunk(2, 1)
    b += a
    return m.last(y)


@pytest.mark.parametrize("compute", [_view_of_it, _it_of_a_view, _view_of_a_view])
def test_what_is_changed_behind_a_view_is_refused(compute: Callable[..., Tensor]) -> None:
    with pytest.raises(CaptureError, match="in-place operation changes a tensor that is read later through a view"):
        capture(net(compute))


def test_a_layer_called_twice_becomes_two() -> None:
    """What follows each call may differ: the batch norm and the ReLU of one are not the other's."""
    model = Net(
        lambda m, x: m.pair(F.relu(m.bn(m.shared(m.pair(x))))), shared=conv(8, 8), bn=nn.BatchNorm2d(8),
        pair=nn.Sequential(conv(8, 8), nn.BatchNorm2d(8), nn.ReLU()),
    )  # fmt: skip
    x = images(channels=8)
    fused = engine.fuse(model)
    torch.testing.assert_close(run(fused, x), run(model, x), rtol=1e-4, atol=1e-5)
    assert layer_names(fused) == ["pair.0", "shared", "pair.0#2"]
    assert sqnr(run(model, x), run(engine.quantize(model, [x]), x)) > 25


def test_a_convolution_shared_with_and_without_an_activation() -> None:
    model, x = Net(lambda m, x: m.conv(F.relu(m.conv(x))), conv=conv(3, 3)), images()
    torch.testing.assert_close(run(engine.fuse(model), x), run(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.view(x.size(0), -1), lambda x: x.view(x.shape[0], -1), lambda x: x.reshape(x.size()[0], -1),
        lambda x: x.view(-1, x.shape[1] * x.shape[2] * x.size(3)), lambda x: x.flatten(1),
        lambda x: torch.flatten(x, 1),
        lambda x: x.reshape(len([1]) * x.size(0), -1), lambda x: x.permute(0, 2, 3, 1).contiguous().view(x.size(0), -1),
    ],
)  # fmt: skip
def test_asking_for_a_size_costs_nothing(flatten: Callable[[Tensor], Tensor]) -> None:
    model = Net(lambda m, x: m.fc(flatten(m.conv(x))), conv=conv(3, 4), fc=nn.Linear(4 * 64, 5))
    x = images(2, 8)
    quantized = engine.quantize(model, [x])
    assert quantized.plan.fp32_layers == ()
    assert "DeQuantize" not in str(quantized)
    assert sqnr(run(model, x), run(quantized, x)) > 25
    assert run(quantized, images(5, 8)).shape == (5, 5)


def test_what_is_asserted_of_sizes_costs_nothing() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        torch._assert(y.shape[1] == 4, "four channels")
        return m.b(F.relu(y))

    quantized = engine.quantize(Net(compute, a=conv(3, 4), b=conv(4, 4)), [images()])
    assert quantized.plan.fp32_layers == ()
    assert "DeQuantize" not in str(quantized)


def test_a_tensor_made_from_sizes_is_a_tensor() -> None:
    model = Net(lambda m, x: m.conv(x) + x.new_ones(x.size(0), 1, 1, 1), conv=conv(3, 4))
    quantized = engine.quantize(model, [images()])
    assert quantized.plan.fp32_layers == (("new_ones", "no int8 kernel for new_ones"),)
    assert sqnr(run(model, images()), run(quantized, images())) > 25


def test_an_input_given_by_name() -> None:
    model, x = Net(lambda m, x: m.relu(input=m.conv(input=x)), conv=conv(3, 4), relu=nn.ReLU()), images()
    torch.testing.assert_close(run(engine.fuse(model), x), run(model, x), rtol=1e-4, atol=1e-5)
    assert layer_names(engine.fuse(model)) == ["conv"]
