"""AdaRound: gains on correlated inputs, is never worse for a layer, keeps to its budget, and repeats itself."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.nets import images, residual_net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.correct import rounding
from pytest_ptq.engine.correct.exchange import with_tensors
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.errors import UsageError
from pytest_ptq.qconfig import QConfig

PLAIN = QConfig("plain", activation_observer="minmax", reduce_range=False)
ROUNDED = QConfig("rounded", activation_observer="minmax", reduce_range=False, rounding=600.0)


def smooth_images(seed: int) -> Tensor:
    """Neighbouring pixels alike, as in photographs: errors of neighbouring weights then add up or cancel."""
    return 3 * F.avg_pool2d(images(4, 32, seed=seed), 5, 1, 2)


DATA = [smooth_images(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def fused() -> FusedModule:
    return engine.fuse(residual_net())


def test_it_gains_on_images_that_it_has_not_seen(fused: FusedModule) -> None:
    fresh = smooth_images(99)
    plain, rounded = (engine.quantize(fused, DATA, q) for q in (PLAIN, ROUNDED))
    assert sqnr(run(fused, fresh), run(rounded, fresh)) > sqnr(run(fused, fresh), run(plain, fresh)) + 2
    assert rounded.notes[0].startswith("rounding: 3 of 3 layers within 600 s, ")


def test_weights_move_by_at_most_one_step_and_the_first_layer_errs_less(fused: FusedModule) -> None:
    plain = engine.quantize(fused, DATA, PLAIN)
    found = rounding.adaptive_rounding(fused, plain, DATA, 600.0)
    assert set(found.tensors) == {"conv1", "conv2", "fc"}
    for path, new in found.tensors.items():
        layer, weight = plain.get_submodule(path), new["weight"]
        assert weight.dtype is torch.int8
        exact = fused.get_submodule(path).weight / layer.scales.view(-1, *[1] * (weight.ndim - 1))
        assert float((weight - exact).abs().max()) < 1.001
        assert not torch.equal(weight, layer.weight)
    better = with_tensors(plain, {"conv1": found.tensors["conv1"]})
    x = plain.x.quantize(DATA[0])
    expected = run(fused.conv1, DATA[0])
    errors = [
        float((m.conv1(x).float().mul(m.conv1.out.scale) - expected).square().sum()) for m in (plain, better)
    ]  # fmt: skip
    assert errors[1] < errors[0]


def test_a_search_that_finds_nothing_better_leaves_the_nearest(
    fused: FusedModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "_search", lambda up, *_: (up < 0.5).float())  # the farthest
    plain = engine.quantize(fused, DATA, PLAIN)
    found = rounding.adaptive_rounding(fused, plain, DATA, 600.0)
    assert found.searched == 3
    for path in ("conv1", "conv2"):
        assert torch.equal(found.tensors[path]["weight"], plain.get_submodule(path).weight)


def test_a_bias_takes_out_the_mean_error_that_is_left(fused: FusedModule) -> None:
    plain = engine.quantize(fused, DATA, PLAIN)
    shifted = with_tensors(plain, {"conv1": {"bias": plain.conv1.bias + 0.3}})
    again = rounding.adaptive_rounding(fused, shifted, DATA, 600.0).tensors
    expected = rounding.adaptive_rounding(fused, plain, DATA, 600.0).tensors
    assert torch.allclose(again["conv1"]["bias"], expected["conv1"]["bias"], atol=1e-5)


def test_an_error_of_the_residual_is_made_good(fused: FusedModule) -> None:
    plain = engine.quantize(fused, DATA, PLAIN)
    assert plain.conv2.adds
    spoiled = copy.deepcopy(plain)
    # What conv2 adds is taken for half as large as it is: no weight of conv2 could mend all of it, but some.
    spoiled.conv2.residual = replace(plain.conv2.residual, scale=plain.conv2.residual.scale / 2)
    found = rounding.adaptive_rounding(fused, spoiled, DATA, 600.0)
    mended = with_tensors(spoiled, {"conv2": found.tensors["conv2"]})
    gained = [sqnr(run(fused, DATA[0]), run(m, DATA[0])) for m in (spoiled, mended)]
    assert gained[1] > gained[0] + 1


def test_the_same_every_time(fused: FusedModule) -> None:
    plain = engine.quantize(fused, DATA, PLAIN)
    one, other = (rounding.adaptive_rounding(fused, plain, DATA, 600.0).tensors for _ in range(2))
    assert all(torch.equal(one[path][name], other[path][name]) for path in one for name in one[path])
    before = torch.random.get_rng_state()
    rounding.adaptive_rounding(fused, plain, DATA[:1], 600.0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_where_the_budget_ends_rounding_is_to_the_nearest(
    fused: FusedModule, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([0.0, 11.0, 11.0, 11.0])
    monkeypatch.setattr(rounding.time, "monotonic", lambda: next(clock))
    plain = engine.quantize(fused, DATA, PLAIN)
    found = rounding.adaptive_rounding(fused, plain, DATA, 10.0)
    assert (found.searched, found.layers, dict(found.tensors)) == (0, 3, {})
    monkeypatch.setattr(rounding, "adaptive_rounding", lambda *_: found)
    with caplog.at_level(logging.WARNING):
        rounded = engine.quantize(fused, DATA, ROUNDED)
    assert torch.equal(run(rounded, DATA[0]), run(plain, DATA[0]))
    assert "rounding left out, it does not help: 0 of 3 layers" in caplog.text


def test_a_bar_shows_the_layers(fused: FusedModule) -> None:
    seen: list[tuple[str, int | None, int]] = []

    def progress(items: Iterable[Any], title: str, total: int | None) -> Iterator[Any]:
        for count, item in enumerate(items, 1):
            yield item
            seen.append((title, total, count))

    engine.quantize(fused, DATA, ROUNDED, progress)
    assert [s for s in seen if s[0] == "adaptive rounding"] == [("adaptive rounding", 3, n) for n in (1, 2, 3)]


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), "60", True])
def test_a_budget_that_cannot_be(bad: Any) -> None:
    with pytest.raises(UsageError, match=r"rounding is .* Give seconds above 0"):
        QConfig("q", rounding=bad)
