"""Cross-layer equalization: the function stays, ranges meet, and one scale for a whole weight becomes bearable."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.nets import Net, conv, images, randomize, run, sqnr
from engine.test_smooth import inverted_residual
from pytest_ptq import engine
from pytest_ptq.engine.correct.equalize import equalize
from pytest_ptq.engine.correct.foldable import folds, input_extremes
from pytest_ptq.errors import UsageError
from pytest_ptq.qconfig import QConfig

TENSOR = QConfig("tensor", activation_observer="minmax", weight_granularity="per_tensor", reduce_range=False)
EQUALIZED = QConfig("equal", "minmax", "per_tensor", reduce_range=False, equalization=True)


def chain() -> Net:
    """Linear layers, ReLU, max pooling and channels scaled apart."""

    def compute(m: Net, x: Tensor) -> Tensor:
        return m.third(m.pool(m.relu(m.second(m.relu(m.first(x))))))

    net = Net(
        compute, first=conv(3, 8), second=conv(8, 8), third=conv(8, 4), relu=nn.ReLU(), pool=nn.MaxPool2d(2)
    )  # fmt: skip
    with torch.no_grad():
        size = torch.logspace(-2, 2, 8)
        for made, read in ((net.first, net.second), (net.second, net.third)):
            made.weight.mul_(size.view(-1, 1, 1, 1))
            made.bias.mul_(size)
            read.weight.div_(size.view(1, -1, 1, 1))
    return net


@pytest.mark.parametrize("make", [chain, inverted_residual])
def test_ranges_meet(make: object) -> None:
    fused = engine.fuse(make())  # type: ignore[operator]
    better, pairs = equalize(fused)
    assert pairs == len(list(folds(fused))) > 1
    for fold in folds(better):
        made = better.get_submodule(fold.producer).weight.abs().flatten(1).amax(1)
        torch.testing.assert_close(made, input_extremes(better.get_submodule(fold.consumers[0])), rtol=0.02, atol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_the_function_stays(seed: int, depthwise: bool) -> None:
    net = randomize(inverted_residual() if depthwise else chain(), seed)
    fused, x = engine.fuse(net), images(seed=seed) * 5
    expected = run(fused, x)
    better, _ = equalize(fused)
    torch.testing.assert_close(run(better, x), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(run(fused, x), expected), "what was given is not changed"


def test_dead_channels_keep_their_size() -> None:
    net = chain()
    with torch.no_grad():
        net.first.weight[2] = 0
        net.second.weight[:, 5] = 0
    fused, x = engine.fuse(net), images()
    better, _ = equalize(fused)
    assert all(bool(torch.isfinite(t).all()) for t in better.state_dict().values())
    torch.testing.assert_close(run(better, x), run(fused, x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [chain, inverted_residual])
def test_it_gains_where_one_scale_serves_a_whole_weight(make: object) -> None:
    net, data, fresh = make(), [images(8, 16, seed=s) for s in range(4)], images(8, 16, seed=9)  # type: ignore[operator]
    plain, equal = (engine.quantize(net, data, q) for q in (TENSOR, EQUALIZED))
    assert sqnr(run(net, fresh), run(equal, fresh)) > sqnr(run(net, fresh), run(plain, fresh)) + 6
    assert equal.notes[0].startswith("equalization: ")


def test_without_effect_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    lonely = Net(lambda m, x: m.conv(x), conv=conv(3, 4))
    with caplog.at_level(logging.WARNING):
        notes = engine.quantize(lonely, [images()], EQUALIZED).notes
    assert notes == ("equalization changed nothing: no two layers follow each other so that factors can move",)
    assert notes[0] in caplog.text
    with pytest.raises(UsageError, match="equalization is 1"):
        QConfig("q", equalization=1)  # type: ignore[arg-type]
