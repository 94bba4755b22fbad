"""A user's own images in class folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_ptq.errors import DataError
from pytest_ptq.sources.image_files import (
    UNKNOWN,
    FileImages,
    ImageFiles,
    Labelled,
    class_folders,
    existing_folder,
    images_below,
)


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ImageFiles):
    """`--ptq-data folder=DIR`: labels are the indices of the sorted class names.

    DIR holds `calibration/<class>/*` and `evaluation/<class>/*`, of which at most as many images are used as the
    fields of `ImageFiles` say; or `<class>/*` alone, which is split by them. Images that only calibrate need no
    class folders.

    Args:
        classes: names of the classes in the order of the model's outputs; None sorts the folders' names.
    """

    classes: tuple[str, ...] | None = None

    def load(self, argument: str | None = None) -> FileImages:
        """List and split the files; none is decoded yet.

        Args:
            argument: DIR.

        Raises:
            UsageError: DIR is not given.
            DataError: it is missing, empty, holds an unknown class, or one content in both parts.
        """
        root = existing_folder(argument, "folder")
        calibration, evaluation = root / "calibration", root / "evaluation"
        if not calibration.is_dir() and not evaluation.is_dir():
            return self.split(self._labelled(root, self._names(root)), root)
        for part in (calibration, evaluation):
            if not part.is_dir():
                raise DataError("the folder does not exist", place=str(part), remedy="Give both, or class folders.")
        names = self._names(calibration, evaluation)
        seen = _where_known(images_below(calibration), calibration, names)
        if not seen:
            raise DataError("there are no images", place=str(calibration), remedy="Put images there.")
        judged = self._labelled(evaluation, names)
        return FileImages(
            self,
            self.shuffled(seen, calibration)[: self.calibration],
            self.shuffled(judged, evaluation)[: self.evaluation],
            root.name,
        )

    def _names(self, *folders: Path) -> Sequence[str]:
        return self.classes or sorted({path.name for folder in folders for path in class_folders(folder)})

    def _labelled(self, folder: Path, names: Sequence[str]) -> list[Labelled]:
        label_of = {name: label for label, name in enumerate(names)}
        images: list[Labelled] = []
        for path in class_folders(folder):
            if path.name not in label_of:
                raise DataError(f"{path.name!r} is none of the {len(names)} declared classes", place=str(folder))
            images += images_below(path, label_of[path.name])
        if not images:
            raise DataError(
                "there are no images in class folders", place=str(folder), remedy="Put them in <class>/<image>."
            )
        return images


def _where_known(images: Sequence[Labelled], folder: Path, names: Sequence[str]) -> list[Labelled]:
    """Images that only calibrate, with the class that their folder names."""
    label_of = {name: label for label, name in enumerate(names)}
    return [Labelled(x.path, label_of.get(x.path.relative_to(folder).parts[0], UNKNOWN)) for x in images]
