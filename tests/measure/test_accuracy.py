import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_ptq.errors import DataError, MeasurementError
from pytest_ptq.measure import accuracy, rows
from pytest_ptq.measure.accuracy import SQNR_CAP_DB, collect_logits, compare
from pytest_ptq.measure.paired import wilson


def one_hot(classes, width=3):
    return nn.functional.one_hot(torch.tensor(classes), width).float()


def batch(images=4, classes=3):
    return torch.randn(images, classes), torch.zeros(images, dtype=torch.int64)


def test_logits_and_labels_come_back_in_order():
    x = torch.arange(12.0).reshape(4, 3)
    y = torch.tensor([0, 1, 2, 0])
    logits, labels = collect_logits(nn.Identity(), [(x[:3], y[:3]), (x[3:], y[3:].int())])
    assert torch.equal(logits, x)
    assert torch.equal(labels, y)
    assert (logits.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_nothing_is_recorded_for_gradients():
    logits, _ = collect_logits(nn.Linear(3, 3), [batch()])
    assert not logits.requires_grad


@pytest.mark.parametrize("batches", [[], [(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))]])
def test_no_images_are_an_error(batches):
    with pytest.raises(DataError, match="no images"):
        collect_logits(nn.Identity(), batches)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 3, 0]), "run from 0 to 3, the model has classes 0 to 2"),
        (torch.tensor([0, -1, 2, 0]), "run from -1 to 2"),
        (torch.tensor([0, 1]), "shape"),
        (torch.zeros(4, 1, dtype=torch.int64), "shape"),
        (torch.zeros(4), "float32, not integers"),
        ([0, 1, 2, 0], "not a pair"),
    ],
)
def test_labels_that_do_not_fit_name_their_batch(labels, message):
    with pytest.raises(DataError, match=message) as caught:
        collect_logits(nn.Identity(), [batch(), (torch.randn(4, 3), labels)])
    assert caught.value.place == "evaluation batch 1"


def test_an_input_the_model_refuses_is_one_sentence():
    with pytest.raises(DataError, match=r"evaluation batch 0: the model refuses an input of shape \(4, 5\)") as caught:
        collect_logits(nn.Linear(3, 3), [batch(classes=5)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_name_their_batch(value):
    bad, labels = batch()
    bad[2, 1] = value
    with pytest.raises(MeasurementError, match="evaluation batch 1: logits are not finite"):
        collect_logits(nn.Identity(), [batch(), (bad, labels)])


@pytest.mark.parametrize("shape", [(4,), (4, 3, 1), (5, 3)])
def test_logits_of_another_shape_are_refused(shape):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.zeros(shape)

    with pytest.raises(MeasurementError, match=r"instead of \(4, classes\)"):
        collect_logits(Odd(), [batch()])


def test_a_model_that_returns_a_tuple_is_told_so():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(MeasurementError, match="returns tuple"):
        collect_logits(Pair(), [batch()])


def test_the_comparison_by_hand():
    truth = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    fp32 = one_hot([0, 1, 2, 0, 1, 2, 0, 1, 0, 1])  # eight right
    int8 = one_hot([0, 1, 2, 0, 1, 0, 1, 2, 2, 2])  # six right: loses three, gains one, flips five
    found = compare(fp32, int8, truth)
    assert found["top1_fp32_percent"].value == 80
    assert found["top1_int8_percent"].value == 60
    drop = found["accuracy_drop_pp"]
    assert drop.value == pytest.approx(20)
    assert drop.low < 20 < drop.high
    assert drop.samples == 10
    assert (drop.details["lost_images"], drop.details["gained_images"]) == (3, 1)
    assert drop.details["mcnemar_p"] == 10 / 16
    assert found["flips_percent"].value == 50
    # Each flip exchanges two ones: noise is 2 * 5, signal 10.
    assert found["sqnr_db"].value == pytest.approx(0, abs=1e-9)


@given(st.floats(1e-3, 1e3))
def test_sqnr_is_twenty_db_for_a_tenth_of_the_amplitude(scale):
    fp32 = scale * torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64)
    found = compare(fp32, fp32 * 1.1, torch.tensor([0, 1]))
    assert found["sqnr_db"].value == pytest.approx(20, abs=1e-6)


def test_identical_logits_have_a_finite_sqnr_and_say_so():
    logits, labels = torch.randn(5, 3), torch.zeros(5, dtype=torch.int64)
    found = compare(logits, logits.clone(), labels)
    assert found["sqnr_db"].value == SQNR_CAP_DB
    assert "identical" in found["sqnr_db"].details["note"]
    assert found["accuracy_drop_pp"].value == 0


def test_one_unit_in_the_last_place_stays_below_the_cap():
    logits = torch.tensor([[1.0, 2.0]])
    found = compare(logits, torch.nextafter(logits, torch.tensor(9.0)), torch.tensor([1]))
    assert 130 < found["sqnr_db"].value < SQNR_CAP_DB


def test_silent_fp32_logits_are_refused():
    with pytest.raises(MeasurementError, match="no signal"):
        compare(torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_comparison_refuses_what_is_not_finite(value):
    with pytest.raises(MeasurementError, match="not finite"):
        compare(torch.ones(2, 3), torch.full((2, 3), value), torch.tensor([0, 1]))


def test_tensors_of_different_images_are_refused():
    with pytest.raises(MeasurementError, match="do not belong together"):
        compare(torch.ones(2, 3), torch.ones(3, 3), torch.tensor([0, 1]))


def brute_force_top5(logits, labels):
    """Classes sorted by logit, the lower class first among equals."""
    ranked = [sorted(range(len(row)), key=lambda c: (-row[c], c)) for row in logits.tolist()]
    return [label in order[:5] for order, label in zip(ranked, labels.tolist(), strict=True)]


@given(st.lists(st.lists(st.integers(-2, 2), min_size=7, max_size=7), min_size=1, max_size=12), st.data())
def test_top5_is_what_sorting_gives_ties_included(rows, data):
    fp32 = torch.tensor(rows).float()
    fp32[0, 0] += 0.5
    int8 = fp32.flip(0)
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 6), min_size=len(rows), max_size=len(rows))))
    found = compare(fp32, int8, labels)
    right = [brute_force_top5(logits, labels) for logits in (fp32, int8)]
    assert found["top5_fp32_percent"].value == pytest.approx(100 * sum(right[0]) / len(rows))
    assert found["top5_int8_percent"].value == pytest.approx(100 * sum(right[1]) / len(rows))
    drop = found["top5_drop_pp"]
    assert drop.value == pytest.approx(100 * (sum(right[0]) - sum(right[1])) / len(rows))
    assert drop.low <= drop.value <= drop.high
    assert drop.details["lost_images"] == sum(a and not b for a, b in zip(*right, strict=True))


@pytest.mark.parametrize(("classes", "there"), [(5, False), (6, True)])
def test_top5_needs_more_than_five_classes(classes, there):
    logits = torch.randn(8, classes)
    assert ("top5_drop_pp" in compare(logits, logits, torch.zeros(8, dtype=torch.int64))) is there


def test_a_model_whose_logits_are_all_equal_gains_nothing_by_it():
    logits = torch.arange(8.0).repeat(8, 1)
    found = compare(logits, torch.zeros(8, 8), torch.arange(8))
    assert found["top1_int8_percent"].value == 100 / 8
    assert found["top5_int8_percent"].value == 100 * 5 / 8


def test_flips_have_wilsons_interval():
    fp32, int8 = one_hot([0] * 10), one_hot([1] * 2 + [0] * 8)
    flips = compare(fp32, int8, torch.zeros(10, dtype=torch.int64))["flips_percent"]
    low, high = wilson(2, 10)
    assert (flips.value, flips.low, flips.high, flips.samples) == (20, 100 * low, 100 * high, 10)


def test_logits_by_parts_are_the_logits(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    fp32 = torch.randn(50, 9, generator=generator)
    int8 = fp32 + 0.3 * torch.randn(50, 9, generator=generator)
    labels = torch.randint(9, (50,), generator=generator)
    whole = compare(fp32, int8, labels)
    monkeypatch.setattr(accuracy, "ROWS", 7)
    by_parts = compare(fp32, int8, labels)
    assert by_parts.keys() == whole.keys()
    for key, one in whole.items():
        assert by_parts[key].value == pytest.approx(one.value, rel=1e-12), key


def test_many_small_batches_come_back_in_order(monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", 3)
    x, labels = torch.arange(33.0).view(11, 3), torch.arange(11) % 3
    pairs = list(zip(x.split(1), labels.split(1), strict=True))
    logits, truth = collect_logits(nn.Identity(), pairs)
    assert torch.equal(logits, x)
    assert torch.equal(truth, labels)
