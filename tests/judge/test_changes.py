"""Change points: planted ones are found where they are, and noise is left alone."""

from __future__ import annotations

import math
import random

import pytest

from pytest_ptq import metrics as m
from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.judge.changes import Change, best_split, change_points, changes_shown


def noise(count: int, seed: int = 0, spread: float = 1.0) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(0, spread) for _ in range(count)]


def where(values: list[float], **more: float) -> list[int]:
    return [change.index for change in change_points(values, **more)]


def test_an_exact_step_is_found_at_its_first_value() -> None:
    (change,) = change_points([1.0] * 20 + [2.0] * 10)
    assert (change.index, change.before, change.after) == (20, 1.0, 2.0)
    assert 0 < change.p_value <= 0.01


@pytest.mark.parametrize("at", [5, 30, 55])
def test_a_step_in_noise(at: int) -> None:
    values = [value + (4.0 if i >= at else 0.0) for i, value in enumerate(noise(60, at))]
    (change,) = change_points(values)
    assert abs(change.index - at) <= 1
    assert change.after - change.before == pytest.approx(4.0, abs=1.0)


def test_two_runs_after_many_alike_are_enough() -> None:
    assert where([1.0] * 30 + [2.0] * 2) == [30]
    assert where([1.0] * 30 + [2.0]) == [], "a single one may be an outlier"


def test_several_steps_and_one_that_was_undone() -> None:
    levels = [0.0] * 20 + [6.0] * 15 + [0.0] * 20 + [-6.0] * 20
    found = where([level + error for level, error in zip(levels, noise(75, 3), strict=True)])
    assert found == pytest.approx([20, 35, 55], abs=1)


def test_medians_are_of_the_values_between_two_changes() -> None:
    first, second = change_points([0.0] * 10 + [5.0] * 10 + [9.0] * 10)
    assert (first.before, first.after, second.before, second.after) == (0.0, 5.0, 5.0, 9.0)


def test_a_drift_is_told_as_steps_in_its_direction() -> None:
    found = change_points([0.1 * i + error for i, error in enumerate(noise(80, 5, 0.5))])
    assert found
    assert all(change.after > change.before for change in found)


def test_one_outlier_is_no_change() -> None:
    for at in (0, 1, 20, 38, 39):
        values = noise(40, 7)
        values[at] += 50.0
        assert where(values) == [], at


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0, 1.0, 2.0], [1.0, 1.0, 2.0, 2.0], [3.0] * 50])
def test_too_little_or_nothing_but_the_same(values: list[float]) -> None:
    assert change_points(values) == ()


def test_the_answer_is_the_same_each_time_and_at_any_scale() -> None:
    values = [value + (1.5 if i >= 25 else 0.0) for i, value in enumerate(noise(50, 11))]
    found = change_points(values)
    assert found == change_points(values)
    assert where([1e-9 * value for value in values]) == where([1e9 * value + 1e12 for value in values]) == where(values)
    assert found


def test_chance_is_the_same_each_time() -> None:
    found = [change_points(noise(25, seed), alpha=0.5) for seed in range(8)]
    assert any(change.p_value > 0.01 for changes in found for change in changes), "not all are beyond doubt"
    assert found == [change_points(noise(25, seed), alpha=0.5) for seed in range(8)]


def test_alpha_decides_what_is_surprising() -> None:
    values = [value + (0.9 if i >= 20 else 0.0) for i, value in enumerate(noise(40, 2))]
    counts = [len(change_points(values, alpha=alpha)) for alpha in (0.001, 0.01, 0.3)]
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[-1]


def test_noise_is_rarely_taken_for_a_change() -> None:
    wrong = sum(bool(change_points(noise(30, seed), alpha=0.05)) for seed in range(200))
    assert 2 <= wrong <= 20, "10 are due; 2 to 20 is what a binomial of 200 and 5 % gives in 998 of 1,000 cases"


def test_the_distance_is_that_of_its_definition() -> None:
    import numpy as np

    def apart(x: list[float], y: list[float]) -> float:
        m, k = len(x), len(y)
        across = 2 * sum(abs(a - b) for a in x for b in y) / (m * k)
        inside = [sum(abs(a - b) for i, a in enumerate(z) for b in z[:i]) / math.comb(len(z), 2) for z in (x, y)]
        return m * k / (m + k) * (across - sum(inside))

    values = noise(9, 4)
    best = max((apart(values[:s], values[s:e]), s) for e in range(4, 10) for s in range(2, e - 1))
    distance, split = best_split(np.asarray([values]))
    assert (distance[0], split[0]) == (pytest.approx(best[0]), best[1])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_an_error(bad: float) -> None:
    with pytest.raises(MeasurementError, match="not finite"):
        change_points([1.0, bad, 2.0])


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_an_alpha_that_cannot_be(alpha: float) -> None:
    with pytest.raises(UsageError, match="alpha"):
        change_points([1.0] * 9, alpha=alpha)


def test_a_change_is_plain_numbers() -> None:
    (change,) = change_points([1.0] * 9 + [2.0] * 9)
    assert all(type(value) in (int, float) for value in vars(change).values())
    assert isinstance(change, Change)


def test_a_change_below_the_digits_of_a_metric_is_not_shown() -> None:
    same, other = [3.81057] * 20 + [3.81062] * 20, [3.81057] * 20 + [3.82] * 20
    assert where(same) == [20]
    assert changes_shown(m.SIZE_REDUCTION, same) == ()
    assert [change.index for change in changes_shown(m.SIZE_REDUCTION, other)] == [20]
