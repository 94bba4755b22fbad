"""SmoothQuant: the function stays, what was hard gets easier, and what gains nothing stays as it is."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.nets import Net, conv, images, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.correct import smooth
from pytest_ptq.engine.correct.foldable import folds
from pytest_ptq.errors import QuantizationError, UsageError
from pytest_ptq.qconfig import QConfig

PLAIN = QConfig("plain", activation_observer="minmax", reduce_range=False)
SMOOTH = QConfig("smooth", activation_observer="minmax", reduce_range=False, smooth_quant=(0.25, 0.5, 0.75))


def inverted_residual() -> Net:
    """Expansion, depthwise and projection with ReLU6, as in MobileNetV2; channels of very different size."""

    def compute(m: Net, x: Tensor) -> Tensor:
        return m.out(m.pool(m.project(m.relu6(m.depthwise(m.relu6(m.expand(x)))))))

    net = Net(
        compute, expand=conv(3, 16, 1), depthwise=conv(16, 16, 3, groups=16), project=conv(16, 8, 1), relu6=nn.ReLU6(),
        pool=nn.MaxPool2d(2), out=conv(8, 4),
    )  # fmt: skip
    with torch.no_grad():
        size = torch.logspace(-2, 1, 16)
        net.expand.weight.mul_(size.view(-1, 1, 1, 1))
        net.expand.bias.mul_(size)
        net.depthwise.weight.div_(size.view(-1, 1, 1, 1))
    return net


def attention_like() -> Net:
    """A layer norm with outlying channels that three linear layers read."""

    def compute(m: Net, x: Tensor) -> Tensor:
        y = m.norm(x.flatten(2).transpose(1, 2))
        return m.q(y) * torch.sigmoid(m.k(y)) + m.v(y)

    net = Net(
        compute, norm=nn.LayerNorm(16), q=nn.Linear(16, 16), k=nn.Linear(16, 16), v=nn.Linear(16, 16)
    )  # fmt: skip
    with torch.no_grad():
        net.norm.weight.copy_(torch.where(torch.arange(16) == 3, 60.0, 1.0))
    return net


def tokens(seed: int, count: int = 8) -> Tensor:
    return images(count, 4, seed, channels=16)


def test_the_places_where_factors_can_move() -> None:
    found = {f.producer: f.consumers for f in folds(engine.fuse(inverted_residual()))}
    assert found == {"expand": ("depthwise",), "depthwise": ("project",), "project": ("out",)}
    assert {f.producer: f.consumers for f in folds(engine.fuse(attention_like()))} == {"norm": ("q", "k", "v")}


def test_factors_do_not_move_past_what_they_do_not_commute_with() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        z = m.b(y) + y  # the sum reads y as it was
        return m.c(torch.sigmoid(m.d(z)))

    net = Net(compute, a=conv(3, 4), b=conv(4, 4), c=conv(4, 4), d=conv(4, 4))
    assert list(folds(engine.fuse(net))) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_any_factors_keep_the_function(seed: int, vision: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    net, x = (inverted_residual(), images(seed=seed)) if vision else (attention_like(), tokens(seed))
    fused = engine.fuse(net)
    factors = {}
    for fold in folds(fused):
        channels = len(fused.get_submodule(fold.producer).weight)
        factors[fold.tensor] = torch.exp(2 * torch.randn(channels, generator=generator, dtype=torch.float64))
    moved = smooth.smooth(fused, factors)
    torch.testing.assert_close(run(moved, x), run(fused, x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(run(fused, x), run(net, x), rtol=1e-4, atol=1e-4)  # and fused was not changed


def test_channels_cut_at_their_own_ceilings_in_int8_too() -> None:
    """Factors above 1 bring a ReLU6's ceiling below the largest integer: those channels are cut by themselves."""
    fused, data = engine.fuse(inverted_residual()), [images(8, 16, seed=s) * 4 for s in range(4)]
    factors = torch.where(torch.arange(16) % 2 == 0, 8.0, 1.0).double()
    moved = smooth.smooth(fused, {next(f.tensor for f in folds(fused) if f.producer == "depthwise"): factors})
    torch.testing.assert_close(run(engine.freeze(moved), data[0]), run(fused, data[0]), rtol=1e-4, atol=1e-4)
    int8 = engine.quantize(moved, data, PLAIN)
    bounds = int8.depthwise._bounds
    assert bounds is not None
    assert bounds.flatten()[0] < bounds.flatten()[1]
    cut = sqnr(run(fused, data[0]), run(int8, data[0]))
    int8.depthwise._bounds = None
    assert cut > sqnr(run(fused, data[0]), run(int8, data[0])) + 6


def test_ceilings_are_stored(tmp_path: object) -> None:
    fused, data = engine.fuse(inverted_residual()), [images(8, 16) * 4]
    tensor = next(f.tensor for f in folds(fused) if f.producer == "depthwise")
    int8 = engine.quantize(smooth.smooth(fused, {tensor: torch.linspace(1, 8, 16).double()}), data, PLAIN)
    loaded = engine.load(engine.save(int8, f"{tmp_path}/model.safetensors"))
    assert torch.equal(run(loaded, data[0]), run(int8, data[0]))


@pytest.mark.parametrize("kind", ["vision", "text"])
def test_it_gains_where_channels_differ(kind: str) -> None:
    make = (lambda s: images(8, 16, seed=s)) if kind == "vision" else tokens
    net = inverted_residual() if kind == "vision" else attention_like()
    data, fresh = [make(s) for s in range(8)], make(99)
    plain, smoothed = (engine.quantize(net, data, q) for q in (PLAIN, SMOOTH))
    gain = sqnr(run(net, fresh), run(smoothed, fresh)) - sqnr(run(net, fresh), run(plain, fresh))
    assert gain > 3
    assert smoothed.notes[0].startswith("smooth_quant: ")


def test_without_effect_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    data = [images(seed=s) for s in range(4)]
    lonely = Net(lambda m, x: m.conv(x), conv=conv(3, 4))
    with caplog.at_level(logging.WARNING):
        assert engine.quantize(lonely, data, SMOOTH).notes[0] in caplog.text
    assert "smooth_quant changed nothing" in caplog.text


def test_bad_alphas_and_missing_batches_are_errors() -> None:
    for bad in (0.5, (1.5,), (float("nan"),), ("0.5",), (True,)):
        with pytest.raises(UsageError, match="smooth_quant is"):
            QConfig("q", smooth_quant=bad)  # type: ignore[arg-type]
    with pytest.raises(QuantizationError, match=r"^prepare: qconfig smooth: smooth_quant needs calibration batches"):
        engine.prepare(attention_like(), SMOOTH)
    prepared = engine.prepare(attention_like(), PLAIN)
    engine.calibrate(prepared, [tokens(0)])
    with pytest.raises(QuantizationError, match=r"corrects weights otherwise than plain, which was prepared"):
        engine.convert(prepared, qconfig=SMOOTH)
