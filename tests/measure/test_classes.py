from __future__ import annotations

import pytest

from pytest_ptq.errors import DataError
from pytest_ptq.measure.classes import class_coverage


def test_classes_of_the_evaluation_set_are_counted() -> None:
    (found,) = class_coverage([0, 0, 1, 9], [0, 1, 2, 3, 3], 10).values()
    assert found.value == 50.0
    assert found.samples == 4
    assert found.details == {
        "calibration_images": 4,
        "calibration_classes": 2,
        "classes": 4,
        "model_classes": 10,
        "class_source": "labels",
        "unseen_classes": "2, 3",
    }


def test_full_coverage_names_no_class() -> None:
    (found,) = class_coverage([1, 0], [0, 1, 1], 2, predicted=True).values()
    assert found.value == 100.0
    assert "unseen_classes" not in found.details
    assert found.details["class_source"] == "fp32 predictions"


def test_of_many_unseen_classes_the_first_are_named() -> None:
    (found,) = class_coverage([0], list(range(100)), 100).values()
    assert found.value == pytest.approx(1.0)
    assert found.details["unseen_classes"] == "1, 2, 3, 4, 5, ..."


@pytest.mark.parametrize(("calibration", "evaluation", "part"), [([], [0], "calibration"), ([0], [], "evaluation")])
def test_nothing_is_covered_by_nothing(calibration: list[int], evaluation: list[int], part: str) -> None:
    with pytest.raises(DataError, match=f"there is no {part} image"):
        class_coverage(calibration, evaluation, 2)
