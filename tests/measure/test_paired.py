import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.paired import (
    PairedCounts,
    images_needed,
    mcnemar_exact,
    newcombe,
    resolvable_drop,
    wilson,
)

counts = st.builds(PairedCounts, *[st.integers(1, 500)] * 4)


def brute_force_mcnemar(lost: int, gained: int) -> float:
    """Count the coin sequences at least as lopsided as the observed one."""
    n = lost + gained
    extreme = sum(abs(2 * sum(coins) - n) >= abs(lost - gained) for coins in product((0, 1), repeat=n))
    return extreme / 2**n


@pytest.mark.parametrize(("lost", "gained"), [(b, c) for b in range(7) for c in range(7)])
def test_mcnemar_counts_every_coin_sequence(lost, gained):
    assert mcnemar_exact(lost, gained) == pytest.approx(brute_force_mcnemar(lost, gained), abs=1e-15)


def test_mcnemar_by_hand():
    # 1 of 10: 2 * (1 + 10) / 1024.
    assert mcnemar_exact(9, 1) == 22 / 1024
    assert mcnemar_exact(0, 0) == 1.0


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_is_symmetric_and_a_probability(lost, gained):
    assert 0 <= mcnemar_exact(lost, gained) == mcnemar_exact(gained, lost) <= 1


def test_mcnemar_survives_counts_whose_powers_exceed_a_float():
    assert mcnemar_exact(30_000, 30_000) == 1.0
    assert mcnemar_exact(5_000, 0) == 0.0


@given(st.integers(1, 5000), st.data())
def test_wilson_inverts_the_score_test(trials, data):
    successes = data.draw(st.integers(0, trials))
    p = successes / trials
    for bound in wilson(successes, trials):
        if 0 < bound < 1:
            score = abs(p - bound) / math.sqrt(bound * (1 - bound) / trials)
            assert score == pytest.approx(1.959964, rel=1e-4)


def test_newcombe_on_the_published_airway_table():
    # Fagerland, Lydersen and Laake, Statistics in Medicine 33:2850 (2014): 1, 1, 7, 12 gives -0.507 to -0.026.
    low, high = newcombe(PairedCounts(both=1, lost=1, gained=7, neither=12))
    assert (round(low, 3), round(high, 3)) == (-0.507, -0.026)


@given(counts)
def test_newcombe_holds_its_estimate_and_mirrors_when_the_models_swap(c):
    low, high = newcombe(c)
    assert -1 <= low <= c.drop <= high <= 1
    swapped = newcombe(PairedCounts(c.both, c.gained, c.lost, c.neither))
    assert swapped == pytest.approx((-high, -low))


def test_newcombe_without_correlation_is_square_and_add():
    # both * neither == lost * gained: phi is 0, the two score intervals are joined at right angles.
    c = PairedCounts(20, 20, 20, 20)
    low, high = wilson(40, 80)
    reach = math.hypot(0.5 - low, high - 0.5)
    assert newcombe(c) == pytest.approx((-reach, reach))


def multinomial(counts, probabilities):
    ways = math.factorial(sum(counts))
    for count in counts:
        ways //= math.factorial(count)
    return ways * math.prod(p**count for p, count in zip(probabilities, counts, strict=True))


@pytest.mark.parametrize("probabilities", [(0.4, 0.15, 0.2, 0.25), (0.3, 0.35, 0.3, 0.05)])
def test_newcombe_covers_the_true_difference_as_often_as_it_says(probabilities):
    """Exact coverage: every table of 40 images, weighted by its probability. Positive and negative correlation."""
    n, true = 40, probabilities[1] - probabilities[2]
    tables = ((a, b, c, n - a - b - c) for a in range(n + 1) for b in range(n + 1 - a) for c in range(n + 1 - a - b))
    coverage = 0.0
    for counts in tables:
        low, high = newcombe(PairedCounts(*counts))
        if low <= true <= high:
            coverage += multinomial(counts, probabilities)
    assert coverage == pytest.approx(0.96, abs=0.02)


def test_newcombe_on_many_images_is_the_normal_interval():
    c = PairedCounts(both=9000, lost=120, gained=80, neither=800)
    reach = 1.96 * math.sqrt((c.discordance - c.drop**2) / c.images)
    assert newcombe(c) == pytest.approx((c.drop - reach, c.drop + reach), rel=0.02)


def test_newcombe_narrows_with_positive_correlation_and_widens_with_negative():
    alike, opposed = PairedCounts(45, 5, 5, 45), PairedCounts(5, 45, 45, 5)
    low, high = wilson(50, 100)
    reach = math.hypot(0.5 - low, high - 0.5)
    assert newcombe(alike)[1] < 0.5 * reach
    assert newcombe(opposed)[1] > 1.3 * reach


@pytest.mark.parametrize("c", [PairedCounts(50, 0, 0, 0), PairedCounts(0, 0, 0, 9), PairedCounts(0, 5, 0, 0)])
def test_newcombe_at_the_edges_stays_a_finite_interval(c):
    low, high = newcombe(c)
    assert -1 <= low <= c.drop <= high <= 1
    assert low < high


@given(counts)
def test_more_images_of_the_same_kind_narrow_newcombe(c):
    more = PairedCounts(c.both * 10, c.lost * 10, c.gained * 10, c.neither * 10)
    (low, high), (low10, high10) = newcombe(c), newcombe(more)
    assert high10 - low10 < high - low


@pytest.mark.parametrize(("discordance", "images"), [(0.02, 6300), (0.03, 9400)])
def test_half_a_point_needs_the_known_number_of_images(discordance, images):
    assert images_needed(0.005, discordance) == pytest.approx(images, rel=0.005)
    assert resolvable_drop(images, discordance) == pytest.approx(0.005, rel=0.005)


@given(st.integers(20, 100_000), st.floats(0, 1))
def test_resolvable_drop_inverts_images_needed(images, discordance):
    drop = resolvable_drop(images, discordance)
    assert images_needed(drop, discordance) <= images
    assert images_needed(drop * (1 - 1e-4), discordance) > images * (1 - 1e-3)


def test_power_is_what_it_says():
    """Exact power of the exact test at the resolvable drop: the normal approximation has to come near 80 %."""
    images, discordance = 2000, 0.1
    drop = resolvable_drop(images, discordance)
    share_lost = (discordance + drop) / 2 / discordance
    n = round(images * discordance)
    power = sum(
        math.comb(n, k) * share_lost**k * (1 - share_lost) ** (n - k)
        for k in range(n + 1)
        if mcnemar_exact(k, n - k) <= 0.05
    )
    assert power == pytest.approx(0.8, abs=0.04)


def test_too_few_images_resolve_nothing():
    assert resolvable_drop(3, 0.5) == 1.0


@pytest.mark.parametrize("bad", [(0, 0, 0, 0), (5, -1, 0, 0)])
def test_counts_must_describe_images(bad):
    with pytest.raises(MeasurementError, match="does not describe any images"):
        PairedCounts(*bad)
