from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional as tvf
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import InterpolationMode

from pytest_ptq.errors import DataError, UnknownNameError, UsageError
from pytest_ptq.sources import ImageFolder
from pytest_ptq.sources.image_files import FileImages, ImageFiles, Labelled, images_below


def labelled(root: Path, draw, count: int) -> list[Labelled]:
    return [Labelled(draw(root / f"{n:03}.png", n), n) for n in range(count)]


@settings(deadline=None, max_examples=25)
@given(
    width=st.integers(8, 90),
    height=st.integers(8, 90),
    resize=st.integers(16, 40),
    cut=st.integers(0, 15),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic"]),
)
def test_preprocessing_is_torchvisions(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, resize: int, cut: int, interpolation: str
) -> None:
    path = tmp_path_factory.mktemp("image") / "x.png"
    noise = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    tvf.to_pil_image(noise).save(path)
    recipe = ImageFiles(resize=resize, crop=resize - cut, interpolation=interpolation)
    preset = ImageClassification(
        crop_size=resize - cut, resize_size=resize, interpolation=InterpolationMode(interpolation)
    )
    with Image.open(path) as image:
        expected = preset(image)
    torch.testing.assert_close(recipe.prepare(path), expected, rtol=0, atol=1e-6)


def test_without_a_crop_the_image_is_squashed(tmp_path: Path, draw) -> None:
    path = draw(tmp_path / "x.png", 1, size=(40, 20))
    prepared = ImageFiles(resize=16, crop=None, mean=(0, 0, 0), std=(1, 1, 1)).prepare(path)
    with Image.open(path) as image:
        expected = tvf.to_tensor(tvf.resize(image, [16, 16]))
    assert torch.equal(prepared, expected)


def test_rotation_flips_both_axes(tmp_path: Path, draw) -> None:
    path = draw(tmp_path / "x.png", 1)
    plain = ImageFiles(resize=16, crop=8).prepare(path)
    turned = ImageFiles(resize=16, crop=8, rotate180=True).prepare(path)
    assert torch.equal(turned, plain.flip(1, 2))
    assert not torch.equal(turned, plain)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_image_becomes_three_channels(tmp_path: Path, draw, mode: str) -> None:
    with Image.open(draw(tmp_path / "x.png", 1)) as image:
        image.convert(mode).save(tmp_path / "y.tif")
    assert ImageFiles(resize=8, crop=8).prepare(tmp_path / "y.tif").shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"interpolation": "bilinaer"}, UnknownNameError),
        ({"resize": 0}, UsageError),
        ({"resize": 20, "crop": 21}, UsageError),
        ({"calibration": 0}, UsageError),
        ({"evaluation": 0}, UsageError),
        ({"batch_size": -1}, UsageError),
        ({"std": (1.0, 0.0, 1.0)}, UsageError),
        ({"mean": (1.0,)}, UsageError),
    ],
)
def test_nonsense_in_a_recipe_is_refused(fields: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        ImageFiles(**fields)  # type: ignore[arg-type]


def test_the_split_never_overlaps_and_never_changes(tmp_path: Path, draw) -> None:
    images = labelled(tmp_path, draw, 20)
    recipe = ImageFiles(resize=8, crop=8, calibration=6, batch_size=4)
    split = recipe.split(images, tmp_path)
    again = recipe.split(images[::-1], tmp_path)
    sides = [set(hashes) for hashes in split.fingerprints()]
    assert [len(side) for side in sides] == [6, 14]
    assert not sides[0] & sides[1]
    assert [list(h) for h in split.fingerprints()] == [list(h) for h in again.fingerprints()]
    other = ImageFiles(resize=8, crop=8, calibration=6, seed=1).split(images, tmp_path)
    assert {*other.fingerprints()[0]} != sides[0]


def test_the_order_of_the_others_survives_a_removed_file(tmp_path: Path, draw) -> None:
    images = labelled(tmp_path, draw, 12)
    recipe = ImageFiles()
    order = recipe.shuffled(images, tmp_path)
    gone = images[5]
    assert recipe.shuffled([i for i in images if i != gone], tmp_path) == [i for i in order if i != gone]
    assert order != images


def test_batches_carry_their_own_labels(tmp_path: Path, draw) -> None:
    images = labelled(tmp_path, draw, 11)
    recipe = ImageFiles(resize=8, crop=8, calibration=1, evaluation=9, batch_size=4)
    data = recipe.split(images, tmp_path)
    batches = list(data.evaluation())
    assert [len(y) for _, y in batches] == [4, 4, 1]
    assert len(data.evaluation()) == 3
    for x, y in batches:
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        for image, label in zip(x, y.tolist(), strict=True):
            assert torch.equal(image, recipe.prepare(tmp_path / f"{label:03}.png"))
    assert sum(len(x) for x in data.calibration()) == 1


def test_images_are_decoded_only_when_their_batch_is_asked_for(tmp_path: Path, draw) -> None:
    images = labelled(tmp_path, draw, 5)
    data = FileImages(ImageFiles(resize=8, crop=8, batch_size=2), images[:1], images[1:], "x")
    (tmp_path / "004.png").write_bytes(b"no image")
    batches = iter(data.evaluation())
    next(batches)
    with pytest.raises(DataError, match=r"004\.png: the image cannot be decoded \(no image format is recognised\)"):
        next(batches)


def test_a_truncated_image_is_named(tmp_path: Path, draw) -> None:
    path = draw(tmp_path / "x.jpg", 1, size=(64, 64))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"x\.jpg: the image cannot be decoded"):
        ImageFiles().prepare(path)


def test_one_content_under_two_names_is_refused(tmp_path: Path, draw) -> None:
    images = labelled(tmp_path, draw, 4)
    shutil.copyfile(tmp_path / "000.png", tmp_path / "copy.png")
    with pytest.raises(DataError, match=r"000\.png \(calibration\) and .*copy\.png \(evaluation\)"):
        FileImages(ImageFiles(), images[:2], [*images[2:], Labelled(tmp_path / "copy.png", 0)], "x")


def test_shared_files_are_counted(tmp_path: Path, draw) -> None:
    for n in range(3):
        source = draw(tmp_path / "calibration" / f"{n}.png", n)
        copy = tmp_path / "evaluation" / "cat" / f"copy{n}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    with pytest.raises(DataError, match=r"hold the same image, and so do 2 more pairs"):
        ImageFolder(calibration=3).load(str(tmp_path))


def test_files_of_one_size_and_different_content_are_accepted(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.ppm").write_bytes(b"P6 1 1 255\n" + name.encode() * 3)
    data = FileImages(ImageFiles(), [Labelled(tmp_path / "a.ppm", 0)], [Labelled(tmp_path / "b.ppm", 0)], "x")
    content = (tmp_path / "b.ppm").read_bytes()
    assert list(data.fingerprints()[1]) == [hashlib.sha256(content).hexdigest()]


@pytest.mark.parametrize(("calibration", "evaluation"), [(5, None), (3, 3), (6, None)])
def test_too_few_images_are_counted(tmp_path: Path, draw, calibration: int, evaluation: int | None) -> None:
    images = labelled(tmp_path, draw, 5)
    with pytest.raises(DataError, match="5 images are too few"):
        ImageFiles(calibration=calibration, evaluation=evaluation).split(images, tmp_path)


def test_only_visible_image_files_are_listed(tmp_path: Path, draw) -> None:
    kept = [draw(tmp_path / "b.JPG", 1), draw(tmp_path / "a" / "x.png", 2)]
    draw(tmp_path / "._b.jpg", 3)
    (tmp_path / "notes.txt").write_text("x")
    assert sorted(image.path for image in images_below(tmp_path)) == sorted(kept)
