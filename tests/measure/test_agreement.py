"""How far two runtimes are apart, and from which layer on: values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import DataError, MeasurementError
from pytest_ptq.measure.agreement import (
    LEVELS,
    WORST_IMAGES,
    Agreement,
    LayerValues,
    first_parting,
    with_parting,
)
from pytest_ptq.measure.paired import wilson
from pytest_ptq.metrics import NOWHERE, Parting

FLIPS, STEPS = "agreement_flips_percent", "agreement_steps"


def logits(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def test_flips_are_counted_with_their_interval() -> None:
    both = Agreement("onnxruntime", scale=0.5)
    both.add(logits((1.0, 0.0), (0.0, 1.0)), logits((1.0, 0.0), (1.0, 0.5)), 2)
    both.add(logits((3.0, 0.0), (0.0, 2.0)), logits((3.0, 0.0), (0.0, 2.0)), 2)
    found = both.measurements()[FLIPS]
    low, high = wilson(1, 4)
    assert (found.value, found.samples, found.details["flipped_images"]) == (25.0, 4, 1)
    assert (found.low, found.high) == (100 * low, 100 * high)


def test_a_step_is_the_scale_of_outputs_that_are_stored_as_integers() -> None:
    both = Agreement("openvino", scale=0.25)
    both.add(logits((1.0, 0.0)), logits((1.0, 0.75)), 1)
    found = both.measurements()[STEPS]
    assert found.value == 3.0
    assert found.details["step"] == 0.25
    assert found.details["step_is"] == "the output's scale"


def test_a_step_of_float_outputs_is_a_255th_of_their_range_over_all_batches() -> None:
    both = Agreement("openvino")
    both.add(logits((0.0, 51.0)), logits((0.0, 50.0)), 1)
    both.add(logits((-204.0, 0.0)), logits((-202.0, 0.0)), 1)
    found = both.measurements()[STEPS]
    assert found.value == pytest.approx(2.0)  # the range is 255, so that a step is 1
    assert found.details["step"] == pytest.approx(1.0)
    assert "255th" in str(found.details["step_is"])


def test_what_the_other_runtime_says_does_not_widen_the_range() -> None:
    both = Agreement("openvino")
    both.add(logits((0.0, 255.0)), logits((0.0, 1e6)), 1)
    assert both.measurements()[STEPS].value == pytest.approx(1e6 - 255)


def test_the_images_that_differ_most_are_known_by_their_number() -> None:
    both = Agreement("openvino")
    expected = torch.zeros(10, 3)
    expected[:, 0] = 1
    found = expected.clone()
    for image, by in ((7, 0.5), (2, 0.25), (9, 0.75)):
        found[image, 1] += by
    both.add(expected[:5], found[:5], 5)
    both.add(expected[5:], found[5:], 5)
    assert both.worst == (9, 7, 2)
    for _ in range(3):
        both.add(expected, found, 10)
    assert len(both.worst) == WORST_IMAGES
    assert both.worst[:2] == (9, 19)


def test_other_outputs_than_logits_have_steps_and_no_flips() -> None:
    both = Agreement("openvino", classes=False)
    masks = torch.tensor([[[0.0, 255.0]]])
    both.add({"out": masks, "aux": (10 * masks,)}, {"out": masks + 3, "aux": (10 * masks,)}, 1)
    found = both.measurements()
    assert list(found) == [STEPS]
    assert found[STEPS].value == pytest.approx(3.0)
    assert found[STEPS].details["output"] == "the output['out']"
    assert both.worst == (0,)


def test_outputs_without_a_row_for_each_image_count_all_the_same() -> None:
    both = Agreement("openvino", classes=False)
    boxes = torch.tensor([[0.0, 255.0], [1.0, 2.0], [3.0, 4.0]])
    both.add([boxes, torch.zeros(0, 4)], [boxes + 1, torch.zeros(0, 4)], 1)
    assert both.measurements()[STEPS].value == pytest.approx(1.0)
    assert both.worst == ()


def test_the_same_constant_is_no_difference_and_another_one_is_an_error() -> None:
    same = Agreement("openvino")
    same.add(logits((1.0, 1.0)), logits((1.0, 1.0)), 1)
    assert same.measurements()[STEPS].value == 0.0
    other = Agreement("openvino")
    other.add(logits((1.0, 1.0)), logits((1.0, 2.0)), 1)
    with pytest.raises(MeasurementError, match=r"of torch is 1 everywhere, and that of openvino is not"):
        other.measurements()


@pytest.mark.parametrize(
    ("expected", "found", "sentence"),
    [
        (logits((1, 2)), logits((1, float("nan"))), "the output of openvino is not finite"),
        (logits((1, float("inf"))), logits((1, 2)), "the output of torch is not finite"),
        (logits((1, 2)), logits((1, 2, 3)), r"torch answers in the shapes \[\(1, 2\)\] and openvino in \[\(1, 3\)\]"),
        (logits((1, 2)), [], "openvino returns no tensor of floats"),
        (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), r"\[\(1, 2, 3\)\] are no logits"),
    ],
)
def test_what_cannot_be_compared(expected: torch.Tensor, found: torch.Tensor, sentence: str) -> None:
    with pytest.raises(MeasurementError, match=sentence) as raised:
        Agreement("openvino").add(expected, found, 1, "batch 3")
    assert str(raised.value).startswith("measure: batch 3: ")


def test_no_images_are_no_agreement() -> None:
    with pytest.raises(DataError, match="no images to evaluate"):
        Agreement("openvino").measurements()


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=8), st.sampled_from([0.125, 0.5, 2.0]))
def test_integers_apart_are_steps_apart(codes: list[int], scale: float) -> None:
    expected = torch.zeros(len(codes), 2)
    found = expected.clone()
    found[:, 1] = torch.tensor(codes) * scale
    both = Agreement("openvino", scale=scale)
    both.add(expected, found, len(codes))
    measured = both.measurements()
    assert measured[STEPS].value == max(map(abs, codes))
    assert measured[FLIPS].details["flipped_images"] == sum(code > 0 for code in codes)


def layer(name: str, *apart: int, kind: str = "conv2d") -> LayerValues:
    base = torch.full((1, len(apart)), 100, dtype=torch.uint8)
    return LayerValues(name, kind, base, (base.int() - torch.tensor([apart])).to(torch.uint8))


def test_the_first_layer_that_differs_by_more_than_rounding() -> None:
    rows = [layer("stem", 0, 0, 1, 0), layer("body.0", 2, 0, -3, 1), layer("body.1", 90, 90, 90, 90, kind="linear")]
    parting = first_parting(rows)
    assert (parting.parts_at, parting.kind) == ("body.0", "conv2d")
    assert (parting.values, parting.of_values, parting.most_steps) == (2, 4, 3)
    assert (parting.layers, parting.rounded_percent, parting.rounded_at, parting.images) == (2, 25.0, "stem", 1)


def test_two_steps_of_a_sum_that_is_rounded_twice_do_not_hide_a_wrong_layer() -> None:
    twice, wrong = layer("add", 2, 0, 0, 1), layer("head", 0, 3, 4, 0)
    assert first_parting([twice, wrong]).parts_at == "head"
    assert first_parting([twice, layer("head", 0, 1)]).parts_at == "add"
    assert first_parting([twice, layer("second", 2, 2)]).layers == 1


def test_rounding_alone_parts_nothing() -> None:
    parting = first_parting([layer("stem", 1, 1, -1, 1), layer("head", 0, 1)])
    assert parting.parts_at == NOWHERE
    assert (parting.rounded_percent, parting.layers) == (100.0, 2)
    assert str(parting) == (
        "nowhere: at most 100 % of a layer's integers differ by one step (stem); "
        "2 layers held against torch, each on the same inputs, 1 images"
    )


def test_integers_may_come_as_floats_and_nothing_else_may() -> None:
    values = torch.tensor([[1.0, 5.0]])
    assert first_parting([LayerValues("a", "linear", values, values + 2)]).most_steps == 2
    for wrong in (values + 0.5, values * float("nan")):
        with pytest.raises(MeasurementError, match="a: the other runtime writes values that are no integers"):
            first_parting([LayerValues("a", "linear", values, wrong)])
    with pytest.raises(MeasurementError, match=r"a: torch writes \(1, 2\) and the other runtime \(2, 1\)"):
        first_parting([LayerValues("a", "linear", values, values.T)])
    with pytest.raises(MeasurementError, match="no layer was held against another runtime"):
        first_parting([])


def test_the_layer_stands_beside_the_largest_difference() -> None:
    both = Agreement("openvino")
    both.add(logits((0.0, LEVELS)), logits((0.0, LEVELS - 4)), 1)
    assert Parting.of(both.measurements()[STEPS]) is None
    parting = first_parting([layer("stem", 1, 0), layer("body.0", 5, 0)])
    found = with_parting(both.measurements(), parting)
    assert found[STEPS].value == pytest.approx(4.0)
    assert Parting.of(found[STEPS]) == parting
    assert found[STEPS].details["step"] == pytest.approx(1.0)
    assert Parting.of(found[FLIPS]) is None
    assert str(parting) == (
        "at body.0 (conv2d): 1 of 2 integers differ by up to 5 steps; before it at most 50 % of a layer's integers "
        "differ by one step (stem); 2 layers held against torch, each on the same inputs, 1 images"
    )
