"""Layers whose names no Python source can hold."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.nets import Net, conv, images, layer_names, randomize, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.capture import capture

ODD = ["a\nb", "a'b", 'a"b', "a\\b", "a\tb", "a}b{c", "", "a\n.".strip("."), '"), print("x'.replace(".", "")]


class Named(nn.Module):
    """A convolution and a bare parameter under a name, with the name that it becomes beside it."""

    def __init__(self, name: str, deep: bool) -> None:
        super().__init__()
        self.name = name
        self.inner = nn.Module() if deep else self
        self.inner._modules[name] = conv(3, 4)
        self.inner._modules["a_b"] = nn.BatchNorm2d(4)
        self.inner._parameters[f"{name}!"] = nn.Parameter(torch.full((4, 1, 1), 0.3))
        if not deep:
            del self.inner

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner if "inner" in self._modules else self
        y = inner._modules["a_b"](inner._modules[self.name](x))
        return y + inner._parameters[f"{self.name}!"]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_odd_names(name: str, deep: bool, tmp_path: Path) -> None:
    model, x = randomize(Named(name, deep)), images(4)
    before = list(model.state_dict())
    torch.testing.assert_close(run(capture(model), x), run(model, x))
    quantized = engine.quantize(model, [x])
    assert list(model.state_dict()) == before
    loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    assert torch.equal(run(loaded, x), run(quantized, x))


def test_names_stay_apart() -> None:
    """`a?b` would become `a_b`, which is there already."""
    model = nn.Sequential()
    for name in ("a_b", "a?b", "a!b"):
        model._modules[name] = conv(3, 3)
    captured = capture(randomize(model))
    assert layer_names(captured) == ["a_b", "a_b__", "a_b_"]
    torch.testing.assert_close(run(captured, images()), run(model, images()))


def test_one_layer_under_two_odd_names() -> None:
    shared, model = nn.Sequential(conv(3, 3)), nn.Sequential()
    shared._modules['x"'] = conv(3, 3)
    model._modules['p"'], model._modules["q\n"] = shared, shared
    randomize(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(run(engine.fuse(model), images()), run(model, images()))


@pytest.mark.parametrize("deep", [False, True])
def test_a_bare_parameter_that_integers_read(deep: bool, tmp_path: Path) -> None:
    """Its observer, and what quantizes it, cannot stand at the parameter's own path."""

    def compute(m: Net, x: Tensor) -> Tensor:
        return m.b((m.a(x) + m.inner.shift) * m.inner.gain if deep else (m.a(x) + m.shift) * m.gain)

    model = Net(compute, a=conv(3, 8), b=conv(8, 4), inner=nn.Module())
    for name, value in (("shift", 0.5), ("gain", 1.5)):
        (model.inner if deep else model).register_parameter(name, nn.Parameter(torch.full((8, 1, 1), value)))
    quantized = engine.quantize(model, [images(4)])
    assert sqnr(run(model, images(4)), run(quantized, images(4))) > 25
    loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    assert torch.equal(run(loaded, images(4)), run(quantized, images(4)))
