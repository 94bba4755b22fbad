from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from pytest_ptq.errors import DataError, UsageError
from pytest_ptq.sources import ImageNet, build_model
from pytest_ptq.suite import load_suite

TINY = ImageNet(resize=8, crop=8, calibration=2, batch_size=2)
HERE = Path(__file__).resolve()
KIT = Path(os.environ.get("PTQ_IMAGENET_KIT", HERE.parents[3] / "shared" / "data" / "imagenet-kit"))


@pytest.fixture
def mapped(tmp_path: Path, draw) -> Path:
    lines = []
    for n in range(6):
        draw(tmp_path / "images" / f"{n}.png", n)
        lines.append(f"{n}.png {n * 100}")
    (tmp_path / "val_map.txt").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def labels(data) -> dict[str, int]:
    return {image.path.name: image.label for image in data._evaluation}


def test_a_map_gives_its_labels(mapped: Path) -> None:
    data = TINY.load(str(mapped))
    assert len(labels(data)) == 4
    assert all(label == int(name[0]) * 100 for name, label in labels(data).items())
    assert torch.cat([y for _, y in data.evaluation()]).tolist() == list(labels(data).values())


def test_a_map_may_use_tabs_and_names_with_spaces(mapped: Path, draw) -> None:
    draw(mapped / "images" / "my cat.png", 9)
    (mapped / "val_map.txt").write_text("0.png\t1\nmy cat.png 2\n1.png  3\n")
    data = ImageNet(calibration=1).load(str(mapped))
    assert len(labels(data)) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("3.png", "is not `file label`"),
        ("3.png cat", "is not `file label`"),
        ("3.png 1.5", "is not `file label`"),
        ("3.png 1000", r"label 1000 lies outside 0\.\.999"),
        ("3.png -1", r"label -1 lies outside 0\.\.999"),
        ("../secret.png 3", "leads out of the folder"),
        ("a/../../secret.png 3", "leads out of the folder"),
        ("/etc/passwd 3", "leads out of the folder"),
        ("..\\secret.png 3", "leads out of the folder"),
        ("absent.png 3", "does not exist"),
        ("0.png 3", "is listed twice"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(mapped: Path, draw, line: str, said: str) -> None:
    draw(mapped / "secret.png", 50)
    (mapped / "val_map.txt").write_text(f"0.png 1\n\n{line}\n1.png 2\n")
    with pytest.raises(DataError, match=rf"val_map\.txt:3: .*{said}"):
        TINY.load(str(mapped))


def test_a_map_that_is_no_text_is_named(mapped: Path) -> None:
    (mapped / "val_map.txt").write_bytes(b"\xff\xfe\x00 1\n")
    with pytest.raises(DataError, match=r"val_map\.txt: cannot be read"):
        TINY.load(str(mapped))


def test_an_empty_map_has_too_few_images(mapped: Path) -> None:
    (mapped / "val_map.txt").write_text("\n")
    with pytest.raises(DataError, match="0 images are too few"):
        TINY.load(str(mapped))


@pytest.mark.parametrize("below", ["", "val"])
def test_class_folders_count_in_the_order_of_their_wnids(tmp_path: Path, draw, below: str) -> None:
    wnids = [f"n{90_003 * n + 1_440_764:08}" for n in range(1000)]
    for wnid in wnids:
        (tmp_path / below / wnid).mkdir(parents=True)
    (tmp_path / below / "not_a_class").mkdir()
    for index in (999, 0, 17, 400):
        draw(tmp_path / below / wnids[index] / f"{index}.jpg", index)
    data = ImageNet(calibration=1).load(str(tmp_path))
    assert len(labels(data)) == 3
    assert all(Path(name).stem == str(label) for name, label in labels(data).items())


@pytest.mark.parametrize("count", [0, 3])
def test_another_number_of_class_folders_says_what_was_found(tmp_path: Path, draw, count: int) -> None:
    for n in range(count):
        draw(tmp_path / f"n{n:08}" / "x.png", n)
    with pytest.raises(DataError, match=rf"{count} class folders .* 1000 are needed, and there is no val_map\.txt"):
        TINY.load(str(tmp_path))


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="imagenet=DIR"):
        TINY.load(None)
    with pytest.raises(DataError, match="absent: the folder does not exist"):
        TINY.load(str(tmp_path / "absent"))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: the folder is a file"):
        TINY.load(str(tmp_path / "file"))


@pytest.mark.skipif(not KIT.is_dir(), reason="the photographs are absent: set PTQ_IMAGENET_KIT to their folder")
def test_real_photographs_and_a_real_model_agree() -> None:
    suite = load_suite(HERE.parents[1] / "suites" / "mobilenet_v2_kit.py", [])
    variant = suite.variants["imagenet"]
    data = variant.data.load(str(KIT))
    model = build_model(variant.model, KIT / "weights" / "mobilenet_v2_coral.pth")
    assert len(data.calibration()) * 8 == 128
    hits = 0
    batches = iter(data.evaluation())
    with torch.inference_mode():
        for _ in range(10):
            x, y = next(batches)
            hits += int((model(x).argmax(1) == y).sum())
    assert hits >= 56  # of 80; without the rotation it is under 40
