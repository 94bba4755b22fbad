from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pytest_ptq.errors import DataError
from pytest_ptq.sources import ImageFolder


def tiny(**fields: object) -> ImageFolder:
    return ImageFolder(**{"resize": 8, "crop": 8, "calibration": 3, **fields})  # type: ignore[arg-type]


def fill(folder: Path, draw, names: list[str], first: int, each: int = 2) -> None:
    for number, name in enumerate(names):
        for n in range(each):
            draw(folder / name / f"{name}{n}.png", first + number * each + n)


def true_labels(data) -> set[tuple[str, int]]:
    return {(image.path.parent.name, image.label) for image in data._evaluation}


def test_one_tree_is_split(tmp_path: Path, draw) -> None:
    fill(tmp_path, draw, ["cat", "ant", "dog"], 0, each=3)
    data = tiny().load(str(tmp_path))
    sides = [set(hashes) for hashes in data.fingerprints()]
    assert [len(side) for side in sides] == [3, 6]
    assert not sides[0] & sides[1]
    assert true_labels(data) <= {("ant", 0), ("cat", 1), ("dog", 2)}


def test_two_trees_are_used_as_they_are(tmp_path: Path, draw) -> None:
    fill(tmp_path / "calibration", draw, ["ant", "cat"], 0)
    fill(tmp_path / "evaluation", draw, ["cat", "dog"], 100)
    data = tiny(calibration=100).load(str(tmp_path))
    assert true_labels(data) == {("cat", 1), ("dog", 2)}
    assert sum(len(x) for x in data.calibration()) == 4
    assert sorted(data.calibration_labels() or ()) == [0, 0, 1, 1]
    assert torch.cat([y for _, y in data.evaluation()]).bincount().tolist() == [0, 2, 2]


def test_calibration_images_need_no_classes(tmp_path: Path, draw) -> None:
    for n in range(4):
        draw(tmp_path / "calibration" / f"{n}.png", n)
    fill(tmp_path / "evaluation", draw, ["cat", "dog"], 100)
    data = tiny().load(str(tmp_path))
    assert true_labels(data) == {("cat", 0), ("dog", 1)}
    assert data.calibration_labels() is None, "nobody says what they show"
    assert sum(len(x) for x in data.calibration()) == 3


def test_declared_classes_set_the_labels(tmp_path: Path, draw) -> None:
    fill(tmp_path, draw, ["cat", "dog"], 0, each=4)
    data = tiny(classes=("dog", "bird", "cat")).load(str(tmp_path))
    assert true_labels(data) == {("cat", 2), ("dog", 0)}


def test_a_class_that_is_not_declared_is_named(tmp_path: Path, draw) -> None:
    fill(tmp_path, draw, ["cat", "cow"], 0)
    with pytest.raises(DataError, match="'cow' is none of the 2 declared classes"):
        tiny(classes=("cat", "dog")).load(str(tmp_path))


def test_one_image_in_both_trees_is_refused(tmp_path: Path, draw) -> None:
    fill(tmp_path / "calibration", draw, ["cat"], 0)
    fill(tmp_path / "evaluation", draw, ["cat"], 100)
    shutil.copyfile(tmp_path / "calibration" / "cat" / "cat0.png", tmp_path / "evaluation" / "cat" / "other.png")
    with pytest.raises(DataError, match=r"cat0\.png \(calibration\) and .*other\.png \(evaluation\)"):
        tiny().load(str(tmp_path))


@pytest.mark.parametrize("missing", ["calibration", "evaluation"])
def test_half_a_layout_is_named(tmp_path: Path, draw, missing: str) -> None:
    there = {"calibration": "evaluation", "evaluation": "calibration"}[missing]
    fill(tmp_path / there, draw, ["cat"], 0)
    with pytest.raises(DataError, match=f"{missing}: the folder does not exist"):
        tiny().load(str(tmp_path))


def test_empty_folders_are_named(tmp_path: Path, draw) -> None:
    with pytest.raises(DataError, match="no images in class folders"):
        tiny().load(str(tmp_path))
    (tmp_path / "calibration").mkdir()
    (tmp_path / "evaluation" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="calibration: there are no images"):
        tiny().load(str(tmp_path))
    draw(tmp_path / "calibration" / "x.png", 1)
    with pytest.raises(DataError, match="evaluation: there are no images in class folders"):
        tiny().load(str(tmp_path))
