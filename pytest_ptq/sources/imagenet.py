"""ImageNet-1k as people have it on disk: class folders by wnid, or `images/` with `val_map.txt`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_ptq.errors import DataError
from pytest_ptq.sources.image_files import (
    FileImages,
    ImageFiles,
    Labelled,
    class_folders,
    existing_folder,
    images_below,
)

CLASSES = 1000
MAP = "val_map.txt"
WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True, kw_only=True)
class ImageNet(ImageFiles):
    """`--ptq-data imagenet=DIR`: labels are the indices 0..999 of the sorted wnids, as torchvision's weights use them.

    DIR holds either `val_map.txt` (lines `file label`) and `images/`, or 1,000 folders named by wnid, also below
    `val/`. The fields are those of `ImageFiles`.
    """

    def load(self, argument: str | None = None) -> FileImages:
        """List and split the files; none is decoded yet.

        Args:
            argument: DIR.

        Raises:
            UsageError: DIR is not given.
            DataError: it is missing, laid out otherwise, too small, or a line of its map is wrong.
        """
        root = existing_folder(argument, "imagenet")
        images = _from_map(root) if (root / MAP).is_file() else _from_folders(root)
        return self.split(images, root)


def _from_folders(root: Path) -> list[Labelled]:
    base = root / "val" if (root / "val").is_dir() else root
    folders = [path for path in class_folders(base) if WNID.fullmatch(path.name)]
    if len(folders) != CLASSES:
        raise DataError(
            f"{len(folders)} class folders named like n01440764 are found, {CLASSES} are needed, and there is no {MAP}",
            place=str(base),
            remedy=f"Give a folder with all {CLASSES} class folders, or with images/ and {MAP} (lines `file label`).",
        )
    return [image for label, folder in enumerate(folders) for image in images_below(folder, label)]


def _from_map(root: Path) -> list[Labelled]:
    path = root / MAP
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({type(error).__name__})", place=str(path)) from error
    found: dict[Path, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        image = _parse_line(line, root / "images", f"{path}:{number}")
        if image.path in found:
            raise DataError(f"{image.path.name} is listed twice", place=f"{path}:{number}", remedy="Remove one line.")
        found[image.path] = image.label
    return [Labelled(image, label) for image, label in found.items()]


def _parse_line(line: str, folder: Path, place: str) -> Labelled:
    *names, text = line.rsplit(maxsplit=1)
    name = "".join(names).strip()
    if not name or not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise DataError(f"{line.strip()!r} is not `file label`", place=place, remedy="Write a file name and a number.")
    if not 0 <= int(text) < CLASSES:
        raise DataError(f"label {text} lies outside 0..{CLASSES - 1}", place=place, remedy="Labels count from 0.")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or "\0" in name:
        raise DataError(f"{name!r} leads out of the folder", place=place, remedy="Name files inside images/.")
    image = folder / name
    if not image.is_file():
        raise DataError(f"{name!r} does not exist in {folder}", place=place, remedy="Correct or remove the line.")
    return Labelled(image, int(text))
