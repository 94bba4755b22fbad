"""The search among observers takes the one that the output asks for, and says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from engine.nets import images, residual_net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.errors import QuantizationError, UsageError
from pytest_ptq.qconfig import BEST, QConfig

BATCHES = [images(8, 32, seed=s) ** 3 for s in range(4)]
"""Long tails: rules differ about where to clip them."""
NAMES = ("histogram", "minmax", "percentile", "mse")


def plain(observer: str) -> QConfig:
    return QConfig("q", activation_observer=observer, reduce_range=False)


def searched(first: str, *others: str) -> QConfig:
    return replace(plain(first), observer_search=others)


def test_the_best_of_them_is_taken_and_named() -> None:
    net = residual_net()
    fused = engine.fuse(net)
    by = BATCHES[::2]

    def mean_sqnr(qconfig: QConfig) -> float:
        model = engine.quantize(fused, BATCHES, qconfig)
        return sum(sqnr(run(fused, x), run(model, x)) for x in by)

    best = max(NAMES, key=lambda n: mean_sqnr(plain(n)))
    for order in (NAMES, NAMES[::-1]):
        model = engine.quantize(fused, BATCHES, searched(*order))
        assert model.qconfig == plain(best)
        assert model.notes[0].startswith(f"observer_search: {best}, of {order[0]} ")
        assert all(f"{name} " in model.notes[0] for name in NAMES)


def test_the_preset_searches() -> None:
    assert BEST.observer_search
    model = engine.quantize(residual_net(), BATCHES, replace(BEST, rounding=None, bias_correction=False))
    assert model.qconfig.observer_search == ()
    x: Tensor = BATCHES[0]
    assert run(model, x).shape == run(residual_net(), x).shape


def test_it_needs_batches() -> None:
    prepared = engine.prepare(residual_net(), "x86")
    engine.calibrate(prepared, BATCHES)
    with pytest.raises(QuantizationError, match="observer_search needs calibration batches"):
        engine.convert(prepared, qconfig=searched(*NAMES))


@pytest.mark.parametrize(
    ("first", "others", "message"),
    [
        ("mse", ("mse",), "has no effect"),
        ("minmax", ("moving_average", "mse"), "collects no histogram, which mse needs"),
        ("mse", ["minmax"], "is \\['minmax'\\]"),
        ("mse", ("nothing",), "activation observer"),
    ],
)
def test_what_cannot_be_searched(first: str, others: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(plain(first), observer_search=others)


def test_extremes_alone_need_no_histogram() -> None:
    model = engine.quantize(residual_net(), BATCHES, searched("minmax", "moving_average"))
    assert model.qconfig.activation_observer in ("minmax", "moving_average")
