"""Image files as data: how they are decoded, ordered, split and kept apart."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ptq.errors import DataError, UnknownNameError, UsageError
from pytest_ptq.sources.lazy import Lazy

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"))
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
UNKNOWN = -1
Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Labelled:
    """An image file and the index of its class; UNKNOWN for one that only calibrates, outside of class folders."""

    path: Path
    label: int


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """What `ImageNet` and `ImageFolder` have in common: preprocessing and split. The defaults are torchvision's.

    Args:
        resize: length of the shorter side in pixels, antialiased; with `crop=None` both sides get this length.
        crop: side of the central square in pixels.
        mean, std: of each channel, for pixel values in 0..1.
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`.
        rotate180: flip both axes, for models that were trained so.
        calibration: how many images calibrate.
        evaluation: how many images evaluate; None is all the others.
        batch_size: images a batch: what is in memory at one time.
        seed: of the order in which images are drawn.
    """

    resize: int = 256
    crop: int | None = 224
    mean: Rgb = (0.485, 0.456, 0.406)
    std: Rgb = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    rotate180: bool = False
    calibration: int = 256
    evaluation: int | None = None
    batch_size: int = 8
    seed: int = 2017

    def __post_init__(self) -> None:
        place = type(self).__name__
        if self.interpolation not in INTERPOLATIONS:
            raise UnknownNameError("interpolation", self.interpolation, INTERPOLATIONS, place=place)
        for name in ("resize", "crop", "calibration", "evaluation", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", place=place, remedy="Give a positive number.")
        if self.crop is not None and self.crop > self.resize:
            raise UsageError(f"crop {self.crop} is larger than resize {self.resize}", place=place)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UsageError("mean and std are not three numbers a channel, std above 0", place=place)

    def prepare(self, path: Path) -> Tensor:
        """The model input of one file: float32 (3, H, W). Raises DataError when it cannot be decoded."""
        import numpy as np
        import torch

        pixels = torch.from_numpy(np.array(_decode(path, self)))
        x = pixels.permute(2, 0, 1).float() / 255
        return (x - torch.tensor(self.mean).view(3, 1, 1)) / torch.tensor(self.std).view(3, 1, 1)

    def shuffled(self, images: Sequence[Labelled], root: Path) -> list[Labelled]:
        """The images in an order that depends on nothing but the seed and each path below `root`.

        Sorting by a hash keeps the relative order of the others when an image is added or removed.
        """

        def key(image: Labelled) -> bytes:
            return hashlib.sha256(f"{self.seed}:{image.path.relative_to(root).as_posix()}".encode()).digest()

        return sorted(images, key=key)

    def split(self, images: Sequence[Labelled], root: Path) -> FileImages:
        """The first `calibration` images of the shuffle calibrate, the next `evaluation` (or all the rest) evaluate.

        Raises:
            DataError: too few images, or one content in both parts.
        """
        order = self.shuffled(images, root)
        rest = len(order) - self.calibration
        if rest < (self.evaluation or 1):
            wanted = "at least one" if self.evaluation is None else str(self.evaluation)
            raise DataError(
                f"{len(order)} images are too few for {self.calibration} to calibrate and {wanted} to evaluate",
                place=str(root),
                remedy="Add images, or ask for fewer in the suite.",
            )
        judged = order[self.calibration :][: self.evaluation]
        return FileImages(self, order[: self.calibration], judged, root.name)


class FileImages:
    """Two lists of files that share no content. Files are decoded batch by batch, each time anew.

    Raises:
        DataError: the same content stands in both lists; tells how often, and names the first two files.
    """

    def __init__(self, recipe: ImageFiles, calibration: Sequence[Labelled], evaluation: Sequence[Labelled], name: str):
        self.name = name
        self._recipe = recipe
        self._calibration = [image.path for image in calibration]
        self._calibration_labels = [image.label for image in calibration]
        self._evaluation = list(evaluation)
        _refuse_shared_content(self._calibration, [image.path for image in evaluation])

    def calibration(self) -> Lazy[Tensor]:
        """Batches (N, 3, H, W), float32, channels last."""
        return Lazy(len(self._calibration), self._recipe.batch_size, lambda part: self._stack(self._calibration[part]))

    def evaluation(self) -> Lazy[tuple[Tensor, Tensor]]:
        """Batches (N, 3, H, W) with their labels (N,), int64."""
        return Lazy(len(self._evaluation), self._recipe.batch_size, self._labelled)

    def calibration_labels(self) -> list[int] | None:
        """The class of each calibration image; None when that of any is unknown."""
        return None if UNKNOWN in self._calibration_labels else self._calibration_labels

    def evaluation_labels(self) -> list[int]:
        """The class of each evaluation image, without decoding any."""
        return [image.label for image in self._evaluation]

    def fingerprints(self) -> tuple[Iterator[str], Iterator[str]]:
        """SHA-256 of each file's bytes."""
        return map(_file_hash, self._calibration), (_file_hash(image.path) for image in self._evaluation)

    def _labelled(self, part: slice) -> tuple[Tensor, Tensor]:
        import torch

        images = self._evaluation[part]
        labels = torch.tensor([image.label for image in images], dtype=torch.int64)
        return self._stack([image.path for image in images]), labels

    def _stack(self, paths: Sequence[Path]) -> Tensor:
        import torch

        images = torch.stack([self._recipe.prepare(path) for path in paths])
        return images.contiguous(memory_format=torch.channels_last)


def existing_folder(argument: str | None, kind: str) -> Path:
    """The folder behind `--ptq-data kind=DIR`. Raises UsageError without one, DataError when it does not exist."""
    if not argument:
        raise UsageError(f"{kind!r} names no folder", place="--ptq-data", remedy=f"Write --ptq-data {kind}=DIR.")
    folder = Path(argument).expanduser()
    if not folder.is_dir():
        found = "is a file" if folder.is_file() else "does not exist"
        raise DataError(f"the folder {found}", place=str(folder), remedy=f"Check --ptq-data {kind}=DIR.")
    return folder


def class_folders(folder: Path) -> list[Path]:
    """Sub-folders in the order of their names, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def images_below(folder: Path, label: int = 0) -> list[Labelled]:
    """Image files at any depth, known by their suffix, in the order of their paths."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return [Labelled(path, label) for path in sorted(found)]


def _decode(path: Path, recipe: ImageFiles) -> Image:
    from PIL import Image, UnidentifiedImageError

    # Pillow raises ValueError and SyntaxError, too, over some damaged files.
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        what = "no image format is recognised" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(
            f"the image cannot be decoded ({what})", place=str(path), remedy="Replace or remove the file."
        ) from error
    image = image.resize(_size(image.size, recipe), Image.Resampling[recipe.interpolation.upper()])
    if recipe.crop is not None:
        left, top = (round((side - recipe.crop) / 2) for side in image.size)
        image = image.crop((left, top, left + recipe.crop, top + recipe.crop))
    return image.transpose(Image.Transpose.ROTATE_180) if recipe.rotate180 else image


def _size(size: tuple[int, int], recipe: ImageFiles) -> tuple[int, int]:
    if recipe.crop is None:
        return recipe.resize, recipe.resize
    width, height = size
    long = int(recipe.resize * max(size) / min(size))
    return (recipe.resize, long) if width <= height else (long, recipe.resize)


def _file_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})", place=str(path)) from error


def _refuse_shared_content(calibration: Sequence[Path], evaluation: Sequence[Path]) -> None:
    # Files of different sizes differ: only a few of 50,000 have to be read.
    by_size: defaultdict[int, list[Path]] = defaultdict(list)
    for path in calibration:
        by_size[path.stat().st_size].append(path)
    known: dict[int, dict[str, Path]] = {}
    twins: list[tuple[Path, Path]] = []
    for path in evaluation:
        size = path.stat().st_size
        if size not in by_size:
            continue
        hashes = known.setdefault(size, {_file_hash(p): p for p in by_size[size]})
        twin = hashes.get(_file_hash(path))
        if twin is not None:
            twins.append((twin, path))
    if twins:
        first, second = twins[0]
        more = f", and so do {len(twins) - 1} more pairs" if len(twins) > 1 else ""
        raise DataError(
            f"{first} (calibration) and {second} (evaluation) hold the same image{more}",
            remedy="Remove one of the two files, or give the suite another seed.",
        )
