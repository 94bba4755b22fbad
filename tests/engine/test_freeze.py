"""The fair fp32 model: equal to the user's, with everything in the kernels that fits there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision import models

from engine.nets import Net, conv, images, layers, partly_fp32_net, randomize, residual_net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine import kernels


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (residual_net, 16),
        (partly_fp32_net, 16),
        (lambda: randomize(models.resnet18(num_classes=10)), 32),
        (lambda: randomize(models.mobilenet_v2(num_classes=10)), 32),
        (lambda: randomize(models.mobilenet_v3_small(num_classes=10)), 32),
    ],
)
def test_it_computes_what_the_model_does(make: Callable[[], nn.Module], size: int) -> None:
    model = make()
    frozen = engine.freeze(model)
    for batch in (1, 3):
        x = images(batch, size)
        before, expected = x.clone(), run(model, x)
        tolerance = 1e-4 * float(expected.abs().max())
        torch.testing.assert_close(run(frozen, x), expected, rtol=1e-4, atol=tolerance)
        torch.testing.assert_close(run(frozen, x), expected, rtol=1e-4, atol=tolerance)
        assert torch.equal(x, before)


def test_what_is_read_after_an_addition_is_not_overwritten() -> None:
    model = Net(lambda m, x: m.c(torch.relu(m.b(y := m.a(x)) + y)) + y, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8))
    torch.testing.assert_close(run(engine.freeze(model), images()), run(model, images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("swapped", [True, False])
def test_a_residual_that_broadcasts(swapped: bool) -> None:
    """A convolution of pooled features that is added to the features, and the other way round."""
    model = Net(
        lambda m, x: (y := m.a(x)) + m.b(y.mean((2, 3), True)) if swapped else m.b(y := m.a(x)) + y.mean((2, 3), True),
        a=conv(3, 8), b=conv(8, 8, 1),
    )  # fmt: skip
    expected = run(model, images())
    for made in (engine.fuse(model), engine.freeze(model)):
        torch.testing.assert_close(run(made, images()), expected, rtol=1e-4, atol=1e-4)
    assert sqnr(expected, run(engine.quantize(model, [images()]), images())) > 25


def test_images_of_several_sizes() -> None:
    model = residual_net()
    frozen = engine.freeze(model)
    for size in (16, 7, 24, 16):
        torch.testing.assert_close(run(frozen, images(2, size)), run(model, images(2, size)), rtol=1e-4, atol=1e-4)


def test_convolutions_are_packed_and_activations_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomize(models.mobilenet_v3_small(num_classes=10))
    frozen = engine.freeze(model)
    packed = [m for m in frozen.modules() if hasattr(m, "packed")]
    assert len(packed) == sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert not any(isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)) for m in frozen.modules())
    assert {m.inside for m in packed} == {"none", "relu", "hardswish"}

    called: list[object] = []
    real = kernels.float_conv2d

    def counted(*args: object) -> object:
        called.append(args[-1])
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(kernels, "float_conv2d", counted)
    monkeypatch.setattr(torch.nn.functional, "conv2d", None)
    run(frozen, images(1, 32))
    adding = sum(m.block[0].adds for m in packed)
    assert len(called) == len(packed) - adding
    assert {"hardswish", "relu", "none"} == set(called)


def test_hardsigmoid_has_no_place_in_the_kernel_and_stays_outside() -> None:
    model = Net(lambda m, x: m.act(m.conv(x)), conv=conv(3, 8), act=nn.Hardsigmoid())
    frozen = engine.freeze(model)
    assert frozen.conv.inside == "none"
    assert frozen.conv.outside is torch.nn.functional.hardsigmoid
    torch.testing.assert_close(run(frozen, images()), run(model, images()), rtol=1e-4, atol=1e-5)


def test_it_prints_as_its_layers() -> None:
    frozen = engine.freeze(residual_net())
    assert layers(frozen) == [
        "ToChannelsLast x.channels_last", "FrozenConvReLU2d conv1", "FrozenConvAddReLU2d conv2",
        "AdaptiveAvgPool2d pool", "Linear fc",
    ]  # fmt: skip
    assert "(conv1): FrozenConvReLU2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))" in str(frozen)
