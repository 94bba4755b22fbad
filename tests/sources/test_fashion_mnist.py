from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
import torch

from pytest_ptq.errors import DataError, UsageError
from pytest_ptq.sources import FashionMNIST, check_disjoint
from pytest_ptq.sources.fashion_mnist import FOLDER, read_split, to_input


def test_input_is_padded_tripled_and_normalised() -> None:
    images = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
    x = to_input(images)
    assert x.shape == (5, 3, 32, 32)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x[:, 0], x[:, 1])
    assert torch.equal(x[:, 0], x[:, 2])
    assert torch.equal(x[:, 1, 2:30, 2:30], (images.float() / 255 - 0.2860) / 0.3530)
    border = x.clone()
    border[:, :, 2:30, 2:30] = (0.0 - 0.2860) / 0.3530
    assert torch.allclose(border, torch.full_like(border, (0.0 - 0.2860) / 0.3530), atol=1e-6, rtol=0)


def test_input_is_what_the_training_script_measures_with() -> None:
    # The script's own expression, written out: the shipped accuracy holds for exactly these numbers.
    images, _ = read_split(FOLDER, "calibration")
    padded = torch.nn.functional.pad(images[:50], (2, 2, 2, 2))
    expected = ((padded.float() / 255 - 0.2860) / 0.3530).unsqueeze(1).expand(-1, 3, -1, -1)
    assert torch.equal(to_input(images[:50]), expected)


def test_all_embedded_images_are_given_in_the_data_sets_order() -> None:
    data = FashionMNIST().load()
    labels = torch.cat([y for _, y in data.evaluation()])
    calibration = torch.cat(list(data.calibration()))
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [1000] * 10
    assert labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert len(calibration) == 1024
    assert len(data.evaluation()) == 157
    assert len(data.calibration()) == 16


def test_calibration_covers_the_classes_evenly() -> None:
    _, labels = read_split(FOLDER, "calibration")
    assert sorted(set(labels.bincount().tolist())) == [102, 103]


def test_batches_are_the_same_each_time() -> None:
    data = FashionMNIST(evaluation=200).load()
    for first, second in zip(data.evaluation(), data.evaluation(), strict=True):
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])


def test_fewer_images_are_the_first_of_one_shuffle() -> None:
    some = torch.cat([y for _, y in FashionMNIST(evaluation=300).load().evaluation()])
    fewer = torch.cat([y for _, y in FashionMNIST(evaluation=100, batch_size=7).load().evaluation()])
    assert torch.equal(some[:100], fewer)
    assert len(fewer.unique()) == 10


def test_a_shorter_last_batch_keeps_images_and_labels_together() -> None:
    data = FashionMNIST(calibration=10, evaluation=10, batch_size=4).load()
    assert [len(x) for x in data.calibration()] == [4, 4, 2]
    assert len(data.calibration_labels()) == 10
    assert [(len(x), len(y)) for x, y in data.evaluation()] == [(4, 4), (4, 4), (2, 2)]


def test_calibration_and_evaluation_share_no_image() -> None:
    data = FashionMNIST().load()
    assert check_disjoint(data)
    calibration, evaluation = (list(hashes) for hashes in data.fingerprints())
    assert (len(calibration), len(evaluation)) == (1024, 10_000)
    images, _ = read_split(FOLDER, "calibration")
    assert calibration[3] == hashlib.sha256(bytes(images[3].flatten().tolist())).hexdigest()


def test_the_calibration_images_have_their_labels() -> None:
    _, labels = read_split(FOLDER, "calibration")
    assert FashionMNIST().load().calibration_labels() == labels.tolist()


@pytest.mark.parametrize("fields", [{"calibration": 1025}, {"evaluation": 10_001}])
def test_more_images_than_there_are_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(DataError, match="are embedded"):
        FashionMNIST(**fields).load()


@pytest.mark.parametrize("fields", [{"calibration": 0}, {"evaluation": 0}, {"batch_size": 0}])
def test_numbers_below_one_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="below 1"):
        FashionMNIST(**fields)


def test_an_argument_is_refused() -> None:
    with pytest.raises(UsageError, match="take no argument"):
        FashionMNIST().load("somewhere")


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"not gzip at all",
        lambda raw: gzip.compress(gzip.decompress(raw)[:-5]),
        lambda raw: gzip.compress(b"\0\0\x08\x01" + gzip.decompress(raw)[4:]),
    ],
    ids=["empty", "half", "text", "short", "magic"],
)
def test_damaged_files_are_named(tmp_path: Path, damage: object) -> None:
    for path in FOLDER.glob("calibration-*.gz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    images = tmp_path / "calibration-images-idx3-ubyte.gz"
    images.write_bytes(damage(images.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"calibration-images.*install pytest-ptq again"):
        read_split(tmp_path, "calibration")
