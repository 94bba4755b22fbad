"""The Fashion-MNIST images that come with the package: real data for a run without a network."""

from __future__ import annotations

import gzip
import hashlib
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ptq.errors import DataError, UsageError
from pytest_ptq.sources.lazy import Lazy

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(__file__).resolve().parent.parent / "data" / "fashion_mnist"
MEAN, STD = 0.2860, 0.3530  # of the 60,000 training images, pixel values in 0..1
SIDE, PADDING = 28, 2
IMAGE_MAGIC, LABEL_MAGIC = 0x803, 0x801
ORDER_SEED = 2017


@dataclass(frozen=True)
class FashionMNIST:
    """1,024 training images to calibrate and the 10,000 test images to evaluate, as the reference weights expect them.

    Args:
        calibration: how many calibration images are used, at most 1,024.
        evaluation: how many test images are used; None is all. A smaller number takes the first of a fixed shuffle.
        batch_size: images a batch.
    """

    calibration: int = 1024
    evaluation: int | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.calibration < 1 or self.batch_size < 1 or (self.evaluation is not None and self.evaluation < 1):
            raise UsageError("a number of images is below 1", place="FashionMNIST", remedy="Give positive numbers.")

    def load(self, argument: str | None = None) -> FashionMNISTImages:
        """Read the images; about 9 MB as uint8.

        Raises:
            UsageError: an argument was given.
            DataError: more images are asked for than there are, or the package's files are damaged.
        """
        if argument is not None:
            raise UsageError(f"the embedded data take no argument, not {argument!r}", place="--ptq-data")
        calibration_images, calibration_labels = read_split(FOLDER, "calibration")
        images, labels = read_split(FOLDER, "t10k")
        used = _first_of_shuffle(len(calibration_images), self.calibration, "calibration")
        judged = _first_of_shuffle(len(images), self.evaluation, "evaluation")
        return FashionMNISTImages(
            calibration_images[used], calibration_labels[used], images[judged], labels[judged], self.batch_size
        )


class FashionMNISTImages:
    """uint8 images in memory; float batches are made when they are asked for.

    Args:
        calibration_images: uint8 (N, 28, 28).
        calibration_labels: int64 (N,).
        images: uint8 (M, 28, 28).
        labels: int64 (M,).
        batch_size: images a batch.
    """

    name = "fashion_mnist"

    def __init__(
        self, calibration_images: Tensor, calibration_labels: Tensor, images: Tensor, labels: Tensor, batch_size: int
    ):
        self._calibration, self._images, self._labels = calibration_images, images, labels
        self._calibration_labels = calibration_labels
        self._batch_size = batch_size

    def calibration(self) -> Lazy[Tensor]:
        """Batches (N, 3, 32, 32), float32, channels last."""
        images = self._calibration
        return Lazy(len(images), self._batch_size, lambda part: to_input(images[part]))

    def evaluation(self) -> Lazy[tuple[Tensor, Tensor]]:
        """Batches (N, 3, 32, 32) with their labels (N,)."""
        images, labels = self._images, self._labels
        return Lazy(len(images), self._batch_size, lambda part: (to_input(images[part]), labels[part]))

    def calibration_labels(self) -> list[int]:
        """The class of each calibration image."""
        return [int(label) for label in self._calibration_labels]

    def fingerprints(self) -> tuple[Iterator[str], Iterator[str]]:
        """SHA-256 of each image's pixels."""
        return _hashes(self._calibration), _hashes(self._images)


def to_input(images: Tensor) -> Tensor:
    """uint8 (N, 28, 28) -> zero padding of two pixels, three equal channels, normalised float32 (N, 3, 32, 32)."""
    import torch
    import torch.nn.functional as F

    padded = F.pad(images, (PADDING,) * 4)
    x = (padded.float() / 255 - MEAN) / STD
    return x.unsqueeze(1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def read_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images as uint8 (N, 28, 28) and labels as int64 (N,), from the data set's own idx format.

    Raises:
        DataError: a file is missing, damaged, or does not match the other one.
    """
    import torch

    pixels = _read_idx(folder / f"{split}-images-idx3-ubyte.gz", IMAGE_MAGIC, header=16, item=SIDE * SIDE)
    numbers = _read_idx(folder / f"{split}-labels-idx1-ubyte.gz", LABEL_MAGIC, header=8, item=1)
    images = torch.frombuffer(pixels, dtype=torch.uint8).view(-1, SIDE, SIDE)
    labels = torch.frombuffer(numbers, dtype=torch.uint8).long()
    if len(images) != len(labels):
        raise DataError(f"{len(images)} images but {len(labels)} labels", place=f"{folder}/{split}-*")
    return images, labels


def _read_idx(path: Path, magic: int, header: int, item: int) -> bytearray:
    remedy = "The installation is damaged: install pytest-ptq again."
    try:
        payload = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read ({type(error).__name__})", place=str(path), remedy=remedy) from error
    count = int.from_bytes(payload[4:8], "big")
    if int.from_bytes(payload[:4], "big") != magic or len(payload) != header + count * item or not count:
        raise DataError("is not the idx file it should be", place=str(path), remedy=remedy)
    return bytearray(payload[header:])


def _first_of_shuffle(available: int, wanted: int | None, what: str) -> slice | list[int]:
    if wanted is None or wanted == available:
        return slice(None)
    if wanted > available:
        raise DataError(
            f"{wanted} {what} images are asked for, {available} are embedded",
            place="FashionMNIST",
            remedy=f"Ask for at most {available}.",
        )
    order = list(range(available))
    random.Random(ORDER_SEED).shuffle(order)
    return order[:wanted]


def _hashes(images: Tensor) -> Iterator[str]:
    for image in images:
        yield hashlib.sha256(image.numpy().tobytes()).hexdigest()
