import gc
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.measure.latency import (
    MAX_PAIRS,
    LatencySamples,
    measure_latency,
    pair_count,
    pair_orders,
    pinned_threads,
    resting_gc,
    to_measurements,
)


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


def samples(fp32, int8, **more):
    given = {"int8_first": (True,) * len(fp32), "threads": 1, "warmup_pairs": 5}
    return LatencySamples(tuple(fp32), tuple(int8), **{**given, **more})


def measure(time, fp32_s=0.020, int8_s=0.005, **more):
    given = {"threads": 1, "clock": time.clock}
    return measure_latency(
        time.model("fp32", fp32_s), time.model("int8", int8_s), lambda: torch.zeros(1), **{**given, **more}
    )


def test_each_pair_gets_its_own_times():
    found = measure(FakeTime())
    assert found.fp32_ms == pytest.approx([20.0] * 320)
    assert found.int8_ms == pytest.approx([5.0] * 320)
    assert found.threads == 1


def test_the_order_that_is_reported_is_the_order_that_ran():
    time = FakeTime()
    found = measure(time, budget_s=0)
    ran = time.ran[-2 * len(found.int8_first) :]
    assert tuple(name == "int8" for name in ran[::2]) == found.int8_first
    assert all(set(pair) == {"fp32", "int8"} for pair in zip(ran[::2], ran[1::2], strict=True))


def test_warm_up_goes_on_until_half_a_second_has_passed():
    assert measure(FakeTime(), 0.020, 0.005).warmup_pairs == 20
    assert measure(FakeTime(), 2.0, 1.0).warmup_pairs == 5


def test_a_slow_model_still_gets_thirty_pairs():
    assert len(measure(FakeTime(), 9.0, 1.0).fp32_ms) == 30


@given(st.floats(0, 100), st.floats(0, 100), st.integers(6, 100))
def test_pair_count_keeps_its_bounds(seconds, budget, fewest):
    count = pair_count(seconds, budget, fewest)
    assert count % 2 == 0
    assert fewest <= count <= max(fewest + 1, MAX_PAIRS)
    assert count <= fewest + 1 or (count - 2) * seconds <= budget


@given(st.integers(3, 100), st.integers(0, 1000))
def test_orders_are_balanced_and_seeded(half, seed):
    orders = pair_orders(2 * half, seed)
    assert sum(orders) == half
    assert orders == pair_orders(2 * half, seed)


def test_orders_are_neither_alternating_nor_blocked():
    orders = pair_orders(100, seed=0)
    changes = sum(a != b for a, b in pairwise(orders))
    assert 30 < changes < 70


def test_progress_sees_every_pair():
    seen = []

    def progress(items, title, total):
        seen.append((title, total))
        yield from items

    found = measure(FakeTime(), progress=progress)
    assert seen == [("latency", len(found.fp32_ms))]


def failing(example):
    raise RuntimeError("expected 3 channels\nand a long trace")


def interrupted(example):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("model", "error"), [(failing, MeasurementError), (interrupted, KeyboardInterrupt)])
@pytest.mark.parametrize("collecting", [True, False])
def test_threads_and_gc_are_given_back_when_a_model_fails(model, error, collecting):
    threads = torch.get_num_threads()
    was_on = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(error):
            measure_latency(model, model, lambda: torch.zeros(1), threads=threads + 1)
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
    measure_latency(forward, forward, lambda: torch.zeros(1), threads=before + 1, clock=time.clock)
    assert set(states) == {(before + 1, False, True)}
    assert torch.get_num_threads() == before


def test_the_context_managers_nest():
    before, was_on = torch.get_num_threads(), gc.isenabled()
    with pinned_threads(before + 2), resting_gc(), pinned_threads(before + 1), resting_gc():
        assert torch.get_num_threads() == before + 1
    assert (torch.get_num_threads(), gc.isenabled()) == (before, was_on)


def test_a_refused_input_is_one_sentence_with_its_shape():
    with pytest.raises(MeasurementError, match=r"the fp32 model refuses an input of shape \(1,\)") as caught:
        measure_latency(failing, failing, lambda: torch.zeros(1), threads=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("more", [{"threads": 0}, {"min_pairs": 5}])
def test_impossible_requests_are_refused(more):
    with pytest.raises(UsageError, match="cannot be measured"):
        measure(FakeTime(), **more)


def test_a_clock_that_stands_still_is_refused():
    with pytest.raises(MeasurementError, match="not a positive number"):
        measure(FakeTime(), 0.0, 0.0)


@pytest.mark.parametrize(("fp32", "int8"), [((1.0,), ()), ((math.nan,), (1.0,)), ((1.0,), (-1.0,))])
def test_broken_samples_are_refused(fp32, int8):
    with pytest.raises(MeasurementError):
        samples(fp32, int8)


def test_measurements_by_hand():
    found = to_measurements(samples([10.0] * 30, [5.0 + i / 10 for i in range(30)], load_average=0.5))
    ratio = found["latency_ratio"]
    # Order statistics 10 and 21 of 30; the median of logs is the geometric mean of the middle two.
    assert ratio.value == pytest.approx(math.sqrt(0.64 * 0.65))
    assert (ratio.low, ratio.high) == pytest.approx((0.59, 0.70))
    assert ratio.samples == 30
    assert ratio.details["load_average"] == 0.5
    assert found["latency_fp32_ms"].value == 10.0
    assert found["latency_int8_ms"].value == pytest.approx(6.45)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=6, max_size=60))
def test_the_ratio_of_swapped_models_is_the_inverse(pairs):
    fp32, int8 = zip(*pairs, strict=True)
    there = to_measurements(samples(fp32, int8))["latency_ratio"]
    back = to_measurements(samples(int8, fp32))["latency_ratio"]
    assert back.value == pytest.approx(1 / there.value)
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low))


def test_a_ratio_that_creeps_is_flagged_and_a_noisy_one_is_not():
    creeping = samples([10.0] * 60, [5.0 + 0.05 * i for i in range(60)])
    assert creeping.drifted
    assert creeping.drift == pytest.approx(7.475 / 5.475 - 1, rel=1e-3)
    noisy = samples([10.0] * 60, [5.0 + (i * 37 % 60) / 20 for i in range(60)])
    assert not noisy.drifted
    assert to_measurements(creeping)["latency_ratio"].details["drifted"] == "yes"


def test_slow_spells_that_hit_both_models_leave_the_ratio_alone():
    spell = [1.8 if 10 < i < 40 else 1.0 for i in range(60)]
    found = to_measurements(samples([10 * s for s in spell], [4 * s for s in spell]))["latency_ratio"]
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.4, 0.4))
