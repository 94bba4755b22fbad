"""Interleaved pairs in one process, with a clock that only the models move."""

import gc
import random
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.measure import pairs as pairs_module
from pytest_ptq.measure.conditions import pinned_threads, resting_gc
from pytest_ptq.measure.load import Load
from pytest_ptq.measure.pairs import (
    CROWDED,
    Pace,
    ProcessTimes,
    pair_orders,
    round_orders,
    time_alone,
    time_pairs,
)

QUICK = Pace(budget_s=0.0, min_pairs=4, warmup_s=0.0)


class FakeTime:
    """A clock that stands still but for the models that run by it."""

    def __init__(self):
        self.now = 0.0
        self.ran = []

    def clock(self):
        return self.now

    def model(self, name, seconds):
        def forward(example):
            self.ran.append(name)
            self.now += seconds

        return forward


@pytest.fixture(autouse=True)
def peace(monkeypatch):
    """Nothing else runs, whatever runs."""
    monkeypatch.setattr(pairs_module.LoadMeter, "load", lambda self: Load(0.0, 0.0))


def measure(time, fp32_s=0.020, variants=None, **more):
    variants = variants or {"int8": 0.005}
    given = {"threads": 1, "seed": 0, "clock": time.clock, "pace": QUICK}
    models = {name: time.model(name, seconds) for name, seconds in variants.items()}
    return time_pairs(time.model("fp32", fp32_s), models, torch.zeros(1), **{**given, **more})


def timed(time):
    """The calls that were timed: each follows one of the same model."""
    calls = time.ran[len(set(time.ran)) :]  # behind one call each, to see whether they take the input
    assert calls[::2] == calls[1::2]
    return calls[1::2]


def test_each_pair_gets_its_own_times():
    found = measure(FakeTime(), variants={"int8": 0.005, "again": 0.020}).pairs
    assert found["int8"].reference_ms == pytest.approx([20.0] * 4)
    assert found["int8"].variant_ms == pytest.approx([5.0] * 4)
    assert found["again"].variant_ms == pytest.approx([20.0] * 4)


def test_the_order_that_is_reported_is_the_order_that_ran():
    time = FakeTime()
    found = measure(time, pace=Pace(budget_s=0, min_pairs=20, warmup_s=0)).pairs["int8"]
    ran = timed(time)[-2 * len(found.variant_first) :]
    assert tuple(name == "int8" for name in ran[::2]) == found.variant_first
    assert all(set(pair) == {"fp32", "int8"} for pair in zip(ran[::2], ran[1::2], strict=True))


class Caches(FakeTime):
    """A machine whose caches hold the weights of the model that ran last."""

    def model(self, name, seconds):
        run = super().model(name, seconds)

        def forward(example):
            self.now += 0.0 if self.ran[-1:] == [name] else 0.5 * seconds
            run(example)

        return forward


def test_a_model_is_timed_with_its_own_weights_in_the_caches():
    found = measure(Caches(), variants={"control": 0.020, "a": 0.005, "b": 0.005}).pairs
    for name, expected in (("control", 20.0), ("a", 5.0), ("b", 5.0)):
        assert found[name].variant_ms == pytest.approx([expected] * 4)
        assert found[name].reference_ms == pytest.approx([20.0] * 4)


def test_variants_take_turns_in_every_round_in_changing_order():
    time = FakeTime()
    measure(time, variants={"a": 0.01, "b": 0.01, "c": 0.01}, pace=Pace(budget_s=0, min_pairs=20, warmup_s=0))
    ran = timed(time)[-4 * 20 :]
    rounds = [tuple(ran[i : i + 4]) for i in range(0, len(ran), 4)]
    assert all(set(names) == {"fp32", "a", "b", "c"} for names in rounds)
    assert all("fp32" in (names[0], names[-1]) for names in rounds), "before or behind all variants"
    assert len({tuple(name for name in names if name != "fp32") for names in rounds}) > 3


def test_a_fast_variant_gets_more_pairs_and_a_slow_one_the_fewest():
    pace = Pace(budget_s=1.0, min_pairs=4, max_pairs=30, warmup_s=0.0)
    found = measure(FakeTime(), variants={"fast": 0.005, "slow": 0.98}, pace=pace).pairs
    assert len(found["fast"].variant_ms) == 30
    assert len(found["slow"].variant_ms) == 4
    assert [sum(pairs.variant_first) for pairs in found.values()] == [15, 2], "balanced in either"


def test_warm_up_goes_on_until_its_time_has_passed():
    assert measure(FakeTime(), pace=Pace(budget_s=0, warmup_s=0.5)).warmup_rounds == 10  # of two calls of either
    assert measure(FakeTime(), 2.0, pace=Pace(budget_s=0, warmup_s=0.5)).warmup_rounds == 3


@given(st.floats(1e-6, 100), st.floats(0, 100), st.integers(2, 50), st.integers(50, 200))
def test_the_number_of_pairs_keeps_its_bounds(seconds, budget, fewest, most):
    count = Pace(budget, fewest, most).pairs(seconds)
    assert count % 2 == 0
    assert fewest <= count <= most + 1
    assert count <= fewest + 1 or (count - 2) * seconds <= budget


@given(st.lists(st.integers(0, 50), max_size=5), st.integers(0, 1000))
def test_every_variant_has_half_of_its_rounds_in_either_order(halves, seed):
    orders = round_orders([2 * half for half in halves], random.Random(seed))
    assert len(orders) == 2 * max(halves, default=0)
    assert all(sum(orders[: 2 * half]) == half for half in halves)


@given(st.integers(3, 100), st.integers(0, 1000))
def test_orders_are_balanced_and_seeded(half, seed):
    orders = pair_orders(2 * half, random.Random(seed))
    assert sum(orders) == half
    assert orders == pair_orders(2 * half, random.Random(seed))


def test_orders_are_neither_alternating_nor_blocked():
    orders = pair_orders(100, random.Random(0))
    assert 30 < sum(a != b for a, b in pairwise(orders)) < 70


def test_a_crowded_machine_is_waited_for(monkeypatch):
    loads = iter([Load(0.9), Load(0.0, 0.9), Load(0.1), Load(0.05)])
    monkeypatch.setattr(pairs_module.LoadMeter, "load", lambda self: next(loads))
    monkeypatch.setattr(pairs_module.time, "sleep", lambda s: None)
    found = measure(FakeTime(), pace=Pace(0, 4, 100, 0.0, patience_s=100.0))
    assert len(found.pairs["int8"].variant_ms) == 4
    assert found.waited_s > 0
    assert not found.crowded


def test_patience_ends_and_little_is_measured(monkeypatch):
    monkeypatch.setattr(pairs_module.LoadMeter, "load", lambda self: Load(0.5))
    time = FakeTime()
    monkeypatch.setattr(pairs_module.time, "sleep", lambda s: setattr(time, "now", time.now + s))
    found = measure(time, pace=Pace(5.0, 20, 100, 0.0, patience_s=2.0))
    assert found.crowded
    assert len(found.pairs["int8"].variant_ms) == 2
    assert 2 < found.waited_s < 4


def test_crowded_is_what_others_and_the_host_take_together():
    def times(load):
        return ProcessTimes({}, load, 1, 0.0, 1.0)

    assert times(Load(CROWDED, 0.01)).crowded
    assert not times(Load(CROWDED, 0.0)).crowded
    assert not times(Load()).crowded


def failing(example):
    raise RuntimeError("expected 3 channels\nand a long trace")


def interrupted(example):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("model", "error"), [(failing, MeasurementError), (interrupted, KeyboardInterrupt)])
@pytest.mark.parametrize("collecting", [True, False])
def test_threads_and_gc_are_given_back_when_a_model_fails(model, error, collecting):
    threads, was_on = torch.get_num_threads(), gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(error):
            time_pairs(model, {"int8": model}, torch.zeros(1), threads=threads + 1, seed=0)
        assert gc.isenabled() is collecting
        assert torch.get_num_threads() == threads
        assert not torch.is_inference_mode_enabled()
    finally:
        (gc.enable if was_on else gc.disable)()


def test_models_run_pinned_without_gc_and_without_gradients():
    states = []

    def forward(example):
        states.append((torch.get_num_threads(), gc.isenabled(), torch.is_inference_mode_enabled()))
        time.now += 1.0

    time, before = FakeTime(), torch.get_num_threads()
    time_pairs(forward, {"x": forward}, torch.zeros(1), threads=before + 1, seed=0, clock=time.clock, pace=QUICK)
    assert set(states) == {(before + 1, False, True)}
    assert torch.get_num_threads() == before


def test_the_context_managers_nest():
    before, was_on = torch.get_num_threads(), gc.isenabled()
    with pinned_threads(before + 2), resting_gc(), pinned_threads(before + 1), resting_gc():
        assert torch.get_num_threads() == before + 1
    assert (torch.get_num_threads(), gc.isenabled()) == (before, was_on)


def test_a_refused_input_is_one_sentence_with_its_shape_and_model():
    with pytest.raises(MeasurementError, match=r"the int8 model refuses an input of shape \(1,\)") as caught:
        time_pairs(FakeTime().model("fp32", 1), {"int8": failing}, torch.zeros(1), threads=1, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("more", [{"threads": 0}, {"pace": Pace(min_pairs=1)}])
def test_impossible_requests_are_refused(more):
    with pytest.raises(UsageError, match="cannot be measured"):
        measure(FakeTime(), **more)


def test_a_model_alone_is_timed_too():
    found = time_alone(lambda x: x + 1, torch.zeros(1), threads=1, pace=QUICK)
    assert len(found) == 4
    assert all(ms > 0 for ms in found)
