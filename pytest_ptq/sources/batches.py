"""A user's own loaders as a data source, and the check that calibration and evaluation share no image.

A comparison image by image needs loaders that give the same batches each time, and an honest one needs evaluation
images that calibration has not seen. Both are checked while the batches go by, from a hash of each image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pytest_ptq.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

RELOADABLE = "Pass a callable that returns a fresh iterator, or a DataLoader."
Loader = Callable[[], Iterable[Any]] | Iterable[Any]


class Fingerprinted(Protocol):
    def fingerprints(self) -> tuple[Iterable[str], Iterable[str]]: ...


@dataclass(frozen=True)
class Batches:
    """Calibration and evaluation batches of a user's own.

    Args:
        calibration: a DataLoader, list or callable that returns an iterable; its items are inputs, or tuples
            whose first element is the input, float32 (N, C, H, W).
        evaluation: the same; its items are pairs of input and integer labels (N,).
        name: what reports call these data.
    """

    calibration: Loader
    evaluation: Loader
    name: str = "batches"

    def load(self, argument: str | None = None) -> LoadedBatches:
        """Wrap the loaders; nothing is read yet.

        Raises:
            UsageError: an argument was given.
            DataError: a loader is something that can be read only once.
        """
        if argument is not None:
            raise UsageError(f"these data take no argument, not {argument!r}", place="--ptq-data")
        return LoadedBatches(self)


class LoadedBatches:
    """Both loaders, with the hash of each image that went by."""

    def __init__(self, declared: Batches):
        self.name = declared.name
        self._calibration = _Replayed(declared.calibration, f"{self.name}, calibration")
        self._evaluation = _Replayed(declared.evaluation, f"{self.name}, evaluation")

    def calibration(self) -> Iterable[Tensor]:
        """Batches of model input."""
        return _view(self._calibration, self._evaluation, _input_only)

    def evaluation(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Pairs of model input and labels."""
        return _view(self._evaluation, self._calibration, _pair)

    def fingerprints(self) -> tuple[Iterator[str], Iterator[str]]:
        """SHA-256 of each image's bytes; reads both loaders."""
        return _hashes(self._calibration), _hashes(self._evaluation)


class _Replayed:
    """A loader and what it gave the first time: one tuple of image hashes a batch."""

    def __init__(self, loader: Loader, place: str):
        if isinstance(loader, Iterator):
            raise DataError(f"a {type(loader).__name__} gives its batches only once", place=place, remedy=RELOADABLE)
        if not callable(loader) and not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
            raise DataError(f"a {type(loader).__name__} gives no batches", place=place, remedy=RELOADABLE)
        self.loader, self.place = loader, place
        self.seen: list[tuple[str, ...]] = []

    def open(self) -> Iterable[Any]:
        # A DataLoader is not callable; an iterable that also is one (a dataset object) is meant as an iterable.
        iterable = hasattr(self.loader, "__iter__") or not callable(self.loader)
        opened: Any = self.loader if iterable else self.loader()  # type: ignore[operator]
        if not hasattr(opened, "__iter__") and not hasattr(opened, "__getitem__"):
            raise DataError(f"the callable returns a {type(opened).__name__}", place=self.place, remedy=RELOADABLE)
        return opened  # type: ignore[no-any-return]

    def remember(self, index: int, hashes: tuple[str, ...]) -> None:
        if index == len(self.seen):
            self.seen.append(hashes)
        elif self.seen[index] != hashes:
            raise DataError(
                "the loader gives other images than the first time",
                place=f"{self.place} batch {index}",
                remedy="Switch off shuffling and random augmentation: fp32 and int8 have to see the same images.",
            )

    def finish(self, count: int) -> None:
        if not self.seen:
            raise DataError("the loader gives no batches", place=self.place, remedy="Check its folder or filter.")
        if count < len(self.seen):
            raise DataError(
                f"the loader gave {len(self.seen)} batches the first time and {count} now",
                place=self.place,
                remedy=RELOADABLE,
            )


class _View:
    """One pass over a loader, checked against its first pass and against the other loader's images."""

    def __init__(self, own: _Replayed, other: _Replayed, unpack: Callable[[Any, str], Any]):
        self._own, self._other, self._unpack = own, other, unpack

    def __iter__(self) -> Iterator[Any]:
        count = 0
        for index, item in enumerate(self._own.open()):
            place = f"{self._own.place} batch {index}"
            hashes = _hash_images(_input_only(item, place))
            self._own.remember(index, hashes)
            self._refuse_shared(hashes, place)
            yield self._unpack(item, place)
            count = index + 1
        self._own.finish(count)

    def _refuse_shared(self, hashes: tuple[str, ...], place: str) -> None:
        mine = set(hashes)
        for index, theirs in enumerate(self._other.seen):
            if not mine.isdisjoint(theirs):
                raise DataError(
                    f"an image also stands in {self._other.place} batch {index}",
                    place=place,
                    remedy="Calibrate on images that are not used for evaluation.",
                )


class _SizedView(_View):
    """A pass whose number of batches is known beforehand."""

    def __len__(self) -> int:
        return len(self._own.loader)  # type: ignore[arg-type]


def _view(own: _Replayed, other: _Replayed, unpack: Callable[[Any, str], Any]) -> _View:
    # A DataLoader has a length by its type, and may still refuse to give it.
    try:
        len(own.loader)  # type: ignore[arg-type]
    except TypeError:
        return _View(own, other, unpack)
    return _SizedView(own, other, unpack)


def check_disjoint(dataset: Fingerprinted) -> None:
    """Refuse a data set that evaluates on an image that it calibrates with. Reads every image once.

    Raises:
        DataError: names the two images by their position.
    """
    calibration, evaluation = dataset.fingerprints()
    position = {fingerprint: index for index, fingerprint in enumerate(calibration)}
    for index, fingerprint in enumerate(evaluation):
        if fingerprint in position:
            raise DataError(
                f"calibration image {position[fingerprint]} and evaluation image {index} are the same",
                place=str(getattr(dataset, "name", type(dataset).__name__)),
                remedy="Calibrate on images that are not used for evaluation.",
            )


def _input_only(item: Any, place: str) -> Tensor:
    return _tensor(item[0] if isinstance(item, (tuple, list)) and item else item, "the input", place)


def _pair(item: Any, place: str) -> tuple[Tensor, Tensor]:
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise DataError("the batch is no pair of input and labels", place=place, remedy="Give (input, labels).")
    return _tensor(item[0], "the input", place), _tensor(item[1], "the label part", place)


def _tensor(value: Any, what: str, place: str) -> Tensor:
    import torch

    if not isinstance(value, torch.Tensor):
        raise DataError(f"{what} is a {type(value).__name__}, not a tensor", place=place, remedy="Collate to tensors.")
    return value


def _hash_images(batch: Tensor) -> tuple[str, ...]:
    import torch

    # As bytes, because numpy knows no bfloat16.
    rows = batch.detach().cpu().contiguous().reshape(batch.shape[0] if batch.ndim else 1, -1)
    return tuple(hashlib.sha256(row.view(torch.uint8).numpy().tobytes()).hexdigest() for row in rows)


def _hashes(replayed: _Replayed) -> Iterator[str]:
    for index, item in enumerate(replayed.open()):
        yield from _hash_images(_input_only(item, f"{replayed.place} batch {index}"))
