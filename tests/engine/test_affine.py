"""The arithmetic of affine quantization, as properties."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.engine import affine
from pytest_ptq.engine.affine import UINT7, UINT8, QParams, choose_qparams, dequantize, quantize

REALS = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-6)
BOUNDS = st.sampled_from([UINT8, UINT7])


@given(REALS, REALS, BOUNDS)
def test_zero_is_exact_and_the_range_is_covered(a: float, b: float, bounds: tuple[int, int]) -> None:
    low, high = sorted((a, b))
    q = choose_qparams(low, high, bounds)
    assert bounds[0] <= q.zero_point <= bounds[1]
    assert (q.quant_min, q.quant_max) == bounds
    assert dequantize(quantize(torch.zeros(1), q), q).item() == 0.0
    # The zero point is rounded, which moves both ends by up to half a step.
    half = q.scale * (0.5 + 1e-6)
    assert q.scale * (q.quant_min - q.zero_point) <= min(low, 0.0) + half
    assert q.scale * (q.quant_max - q.zero_point) >= max(high, 0.0) - half


@given(REALS, REALS, BOUNDS, st.integers(0, 99))
def test_a_round_trip_is_off_by_half_a_step_at_most(a: float, b: float, bounds: tuple[int, int], seed: int) -> None:
    low, high = sorted((a, b))
    q = choose_qparams(low, high, bounds)
    ends = q.scale * (q.quant_min - q.zero_point), q.scale * (q.quant_max - q.zero_point)
    x = torch.empty(64, dtype=torch.float64).uniform_(*ends, generator=torch.Generator().manual_seed(seed))
    stored = quantize(x, q)
    assert int(stored.min()) >= q.quant_min
    assert int(stored.max()) <= q.quant_max
    back = (stored.double() - q.zero_point) * q.scale
    assert float((back - x).abs().max()) <= q.scale * (0.5 + 1e-9)


@given(st.integers(0, 255), st.floats(1e-3, 10))
def test_every_integer_survives_a_round_trip(zero_point: int, scale: float) -> None:
    q = QParams(scale, zero_point)
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(quantize(dequantize(every, q), q), every)


def test_halves_round_to_even_and_the_outside_saturates() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -1e9, 1e9])
    assert quantize(x, QParams(1.0, 10)).tolist() == [10, 12, 12, 0, 255]
    assert quantize(x, QParams(1.0, 10, *UINT7)).tolist() == [10, 12, 12, 0, 127]


def test_a_range_beside_zero_is_widened_to_contain_it() -> None:
    assert choose_qparams(2.0, 5.1) == QParams(5.1 / 255, 0)
    assert choose_qparams(-5.1, -2.0) == QParams(5.1 / 255, 255)


def test_a_tensor_of_zeros_has_a_scale() -> None:
    q = choose_qparams(0.0, 0.0)
    assert q.scale > 0
    assert dequantize(quantize(torch.zeros(3), q), q).tolist() == [0.0, 0.0, 0.0]


@given(st.integers(1, 8), st.integers(1, 8), st.booleans(), st.integers(0, 99))
def test_weights_are_off_by_half_a_step_at_most(k: int, c: int, per_channel: bool, seed: int) -> None:
    weight = torch.randn(k, c, 3, 3, generator=torch.Generator().manual_seed(seed))
    weight[seed % k] = 0
    scales = affine.weight_scales(weight, per_channel)
    stored = affine.quantize_weight(weight, scales)
    assert stored.dtype is torch.int8
    assert int(stored.min()) >= -127
    steps = scales.view(-1, 1, 1, 1)
    assert bool(((stored * steps - weight).abs() <= steps * 0.5001).all())
    if not per_channel:
        assert len(set(scales.tolist())) == 1


def test_a_channel_of_zeros_has_a_tiny_scale_and_stays_zero() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.27, -0.5]])
    scales = affine.weight_scales(weight, per_channel=True)
    assert scales[0] > 0
    assert torch.isfinite(1 / scales).all()
    assert scales[1].item() == pytest.approx(0.01)
    assert affine.quantize_weight(weight, scales).tolist() == [[0, 0], [127, -50]]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.sampled_from([1, 2, 4]))
def test_integer_sums_are_those_of_a_convolution(n: int, stride: int, padding: int, dilation: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(n)
    x = torch.randint(0, 256, (n, 4, 9, 7), dtype=torch.uint8, generator=generator)
    weight = torch.randint(-127, 128, (8, 4 // groups, 3, 2), dtype=torch.int8, generator=generator)
    geometry = (stride, stride), (padding, padding), (dilation, dilation), groups
    sums = affine.conv2d_sums(x, 17, weight, *geometry)
    expected = F.conv2d(x.double() - 17, weight.double(), None, *geometry)
    assert torch.equal(sums.double(), expected)


def test_integer_sums_are_those_of_a_linear_layer() -> None:
    x, weight = torch.tensor([[3, 5]], dtype=torch.uint8), torch.tensor([[1, -2], [100, 7]], dtype=torch.int8)
    assert affine.linear_sums(x, 4, weight).tolist() == [[-1 - 2, -100 + 7]]


def test_requantize_by_hand() -> None:
    sums = torch.tensor([[100, -100]])
    scale, bias = torch.tensor([0.01, 0.02]), torch.tensor([0.5, 0.0])
    # 100 * 0.01 + 0.5 = 1.5 -> 3 steps of 0.5; -100 * 0.02 = -2 -> -4 steps.
    assert affine.requantize(sums, scale, bias, QParams(0.5, 10)).tolist() == [[13, 6]]


@given(REALS, REALS, BOUNDS)
def test_symmetric_storage_covers_the_range_with_zero_in_the_middle(
    a: float, b: float, bounds: tuple[int, int]
) -> None:
    low, high = sorted((a, b))
    q = choose_qparams(low, high, bounds, symmetric=True)
    if low >= 0:
        assert q == choose_qparams(low, high, bounds)
        return
    assert q.zero_point == (bounds[1] + 1) // 2
    assert q.quant_max - q.zero_point == affine.half_steps(bounds)
    reach = max(-low, high)
    assert q.scale * affine.half_steps(bounds) == pytest.approx(reach)
    assert dequantize(quantize(torch.zeros(1), q), q).item() == 0.0


@given(st.integers(1, 4), st.integers(1, 20), st.booleans(), st.integers(0, 99))
def test_a_clipped_weight_errs_no_more_than_any_other_threshold(k: int, c: int, per_channel: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(k, c, 3, generator=generator) ** 3
    clipped = affine.clip_weight(weight, per_channel)
    assert clipped.shape == weight.shape
    assert bool((clipped.abs() <= weight.abs()).all())

    def error(threshold: torch.Tensor) -> torch.Tensor:
        scales = (threshold / affine.WEIGHT_MAX).clamp_min(1e-12)
        stored = affine.quantize_weight(weight, scales).double() * scales.double().view(-1, 1, 1)
        squared = (stored - weight.double()).square().flatten(1).sum(1)
        return squared if per_channel else squared.sum()

    found = error(affine.weight_scales(clipped, per_channel) * affine.WEIGHT_MAX)
    extremes = affine.weight_scales(weight, per_channel) * affine.WEIGHT_MAX
    for part in affine.CLIPS:
        assert bool((found <= error(extremes * part) * (1 + 1e-4) + 1e-12).all())


def neighbours(weight: torch.Tensor) -> list[int]:
    """What two neighbouring inputs of one place come to together, products of one sign, for each pair."""
    found = []
    for channel in weight.flatten(2).tolist():
        for i in range(0, len(channel), 2):
            for place in range(len(channel[0])):
                pair = [row[place] for row in channel[i : i + 2]]
                found += [abs(sum(min(w, 0) for w in pair)), sum(max(w, 0) for w in pair)]
    return found


@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.booleans(), st.booleans(),
    st.sampled_from([127, 181, 200, 255]), st.integers(0, 99),
)  # fmt: skip
def test_two_products_fit_into_int16_however_weights_are_rounded(
    k: int, c: int, size: int, per_channel: bool, clips: bool, largest: int, seed: int
) -> None:
    weight = torch.randn(k, c, size, 1, generator=torch.Generator().manual_seed(seed)) ** 3
    if clips:
        weight = affine.clip_weight(weight, per_channel, largest)
    scales = affine.weight_scales(weight, per_channel, largest)
    steps = weight.double() / scales.double().view(-1, 1, 1, 1)
    for rounded in (steps.floor(), steps.ceil(), affine.quantize_weight(weight, scales)):
        assert c == 1 or largest * max(neighbours(rounded)) <= 32767
    # The scale is no larger than that takes: a weight alone, or a pair, reaches its bound.
    reached = torch.tensor(max(max(neighbours(steps)) if c > 1 else 0.0, 0.0))
    assert float(steps.abs().max()) == pytest.approx(127, rel=1e-5) or reached == pytest.approx(
        32767 // largest - 2, rel=1e-5
    )


def test_clipping_a_weight_of_zeros_or_of_one_number_changes_nothing() -> None:
    for weight in (torch.zeros(2, 3), torch.full((2, 3), 0.7), torch.tensor([[0.0, 0.0], [1.0, -1.0]])):
        assert torch.equal(affine.clip_weight(weight, True), weight)
