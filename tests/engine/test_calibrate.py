"""Calibration: what bad batches and bad layers say, and what a calibration is good for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from engine.nets import images, residual_net
from pytest_ptq import engine
from pytest_ptq.engine.calibrate import check_batch
from pytest_ptq.errors import DataError, QuantizationError
from pytest_ptq.qconfig import MINMAX, X86

GOOD = images(2)


def spoilt(value: float) -> Tensor:
    bad = GOOD.clone()
    bad[1, 2, 3, 4] = value
    return bad


@pytest.mark.parametrize("batches", [[], (), iter(())])
def test_no_batch(batches: object) -> None:
    with pytest.raises(DataError, match=r"calibrate: no calibration batch\. Give at least one batch"):
        engine.quantize(residual_net(), batches)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "expected a tensor, found NoneType"),
        ({"image": GOOD}, "expected a tensor, found dict"),
        ("image.png", "expected a tensor, found str"),
        ((), "expected a tensor, found tuple"),
        ([[1.0]], "expected a tensor, found list"),
        (torch.zeros(0, 3, 16, 16), r"the batch is empty \(shape \(0, 3, 16, 16\)\)"),
        (spoilt(float("nan")), "the batch holds NaN or Inf"),
        (spoilt(float("inf")), "the batch holds NaN or Inf"),
        ((spoilt(float("nan")), torch.zeros(2)), "the batch holds NaN or Inf"),
    ],
)
def test_a_bad_batch_is_named_by_its_number(bad: object, message: str) -> None:
    with pytest.raises(DataError, match=f"calibration batch 2: {message}"):
        engine.quantize(residual_net(), [GOOD, GOOD, bad, GOOD])


@pytest.mark.parametrize(
    ("bad", "layer"),
    [
        (images(2, channels=4), "conv1"),
        (images(2).to(torch.uint8), "conv1"),
        (images(2).double(), "conv1"),
        (torch.zeros(2, 3), "conv1"),
        (torch.zeros(1, 2, 3, 16, 16), "conv1"),
    ],
)
def test_a_batch_that_does_not_fit_names_the_layer(bad: Tensor, layer: str) -> None:
    with pytest.raises(
        DataError, match=f"calibration batch 1, layer {layer}: input of shape .* does not fit"
    ) as caught:
        engine.quantize(residual_net(), [GOOD, bad])
    assert "\n" not in str(caught.value)


def test_a_layer_that_overflows_is_named() -> None:
    model = residual_net()
    with torch.no_grad():
        model.conv2.weight.mul_(3e38)
    with pytest.raises(QuantizationError, match="conv2: the output holds NaN or Inf"):
        engine.quantize(model, [GOOD])


def test_batches_with_labels_and_without_give_the_same() -> None:
    one, other = (engine.quantize(residual_net(), b) for b in ([GOOD], [(GOOD, torch.zeros(2))]))
    assert torch.equal(one(GOOD), other(GOOD))


def test_a_generator_is_read_once_and_shown() -> None:
    seen: list[tuple[str, int | None]] = []

    def progress(batches: object, title: str, total: int | None) -> Iterator[object]:
        seen.append((title, total))
        yield from batches  # type: ignore[misc]

    prepared = engine.prepare(residual_net())
    assert engine.calibrate(prepared, (GOOD for _ in range(3)), progress).images == 6
    assert engine.calibrate(engine.prepare(residual_net()), [GOOD] * 2, progress).images == 4
    assert seen == [("calibrating", None), ("calibrating", 2)]


def test_a_calibration_does_not_change_any_more() -> None:
    prepared = engine.prepare(residual_net())
    calibration = engine.calibrate(prepared, [GOOD])
    high = calibration.statistics["x"].high
    engine.calibrate(prepared, [GOOD * 100])
    assert calibration.statistics["x"].high == high
    assert engine.calibrate(prepared, [GOOD]).statistics["x"].high == pytest.approx(100 * high)


def test_one_with_histograms_serves_minmax_and_not_the_other_way_round() -> None:
    rich, poor = engine.prepare(residual_net(), X86), engine.prepare(residual_net(), MINMAX)
    served = engine.convert(rich, engine.calibrate(rich, [GOOD]), MINMAX)
    calibration = engine.calibrate(poor, [GOOD])
    assert torch.equal(served(GOOD), engine.convert(poor, calibration)(GOOD))
    with pytest.raises(QuantizationError, match=r"nothing that the histogram observer could use.*Calibrate with this"):
        engine.convert(poor, calibration, X86)


def test_order_of_batches_does_not_matter() -> None:
    batches = [images(2, seed=i) * (i + 1) for i in range(4)]
    one, other = (engine.quantize(residual_net(), b) for b in (batches, batches[::-1]))
    assert torch.equal(one(GOOD), other(GOOD))


def test_no_gradient_is_recorded() -> None:
    assert not engine.quantize(residual_net(), [GOOD])(GOOD).requires_grad


def test_integers_are_no_nan() -> None:
    assert check_batch(torch.zeros(2, dtype=torch.int64), 0).dtype is torch.int64
