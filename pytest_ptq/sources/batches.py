"""A user's own loaders as a data source, and the check that calibration and evaluation share no image.

A comparison image by image needs loaders that give the same batches each time, and an honest one needs evaluation
images that calibration has not seen. Both are checked while the batches go by, from a hash of each image.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import DataError, UsageError
from pytest_ptq.sources.disjoint import APART, check_disjoint, name_of, stand
from pytest_ptq.sources.image_files import FileImages
from pytest_ptq.sources.seen_images import SIZE, SeenImages, digests_of, each

if TYPE_CHECKING:
    from torch import Tensor

RELOADABLE = "Pass a callable that returns a fresh iterator, or a DataLoader."
Loader = Callable[[], Iterable[Any]] | Iterable[Any]


@dataclass(frozen=True)
class Batches:
    """Calibration and evaluation batches of a user's own.

    Args:
        calibration: a DataLoader, list or callable that returns an iterable; its items are inputs, or tuples
            whose first element is the input, float32 (N, C, H, W).
        evaluation: the same; its items are pairs of input and integer labels (N,), or whatever targets the metrics of
            the suite take.
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

    def evaluation(self) -> Iterable[tuple[Tensor, Any]]:
        """Pairs of model input and labels."""
        return _view(self._evaluation, self._calibration, _pair)

    def calibration_labels(self) -> list[int] | None:
        """The class of each calibration image, where the loader gave labels beside them; None before the first pass."""
        labels = self._calibration.labels
        return None if not labels or None in labels else [label for batch in labels for label in batch or ()]

    def fingerprints(self) -> tuple[Iterator[str], Iterator[str]]:
        """SHA-256 of each image's bytes; reads both loaders."""
        return _hashes(self._calibration), _hashes(self._evaluation)


class _Replayed:
    """A loader and what it gave the first time."""

    def __init__(self, loader: Loader, place: str):
        if isinstance(loader, Iterator):
            raise DataError(f"a {type(loader).__name__} gives its batches only once", place=place, remedy=RELOADABLE)
        if not callable(loader) and not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
            raise DataError(f"a {type(loader).__name__} gives no batches", place=place, remedy=RELOADABLE)
        self.loader, self.place = loader, place
        self.seen = SeenImages()
        self.labels: list[array[int] | None] = []
        """Of each batch, where it is a pair of input and integer labels (N,)."""

    def open(self) -> Iterable[Any]:
        # A DataLoader is not callable; an iterable that also is one (a dataset object) is meant as an iterable.
        iterable = hasattr(self.loader, "__iter__") or not callable(self.loader)
        opened: Any = self.loader if iterable else self.loader()  # type: ignore[operator]
        if not hasattr(opened, "__iter__") and not hasattr(opened, "__getitem__"):
            raise DataError(f"the callable returns a {type(opened).__name__}", place=self.place, remedy=RELOADABLE)
        return opened  # type: ignore[no-any-return]

    def remember(self, index: int, digests: bytes, item: Any) -> None:
        if index == len(self.seen.batches):
            self.seen.add(digests)
            self.labels.append(_classes(item, len(digests) // SIZE))
        elif self.seen.batches[index] != digests:
            raise DataError(
                "the loader gives other images than the first time",
                place=f"{self.place} batch {index}",
                remedy="Switch off shuffling and random augmentation: fp32 and int8 have to see the same images.",
            )

    def finish(self, count: int) -> None:
        first = len(self.seen.batches)
        if not first:
            raise DataError("the loader gives no batches", place=self.place, remedy="Check its folder or filter.")
        if count < first:
            raise DataError(
                f"the loader gave {first} batches the first time and {count} now",
                place=self.place,
                remedy=RELOADABLE,
            )


class _View:
    """One pass over a loader, checked against its first pass and against the other loader's images."""

    def __init__(self, own: _Replayed, other: _Replayed, unpack: Callable[[Any, str], Any]):
        self._own, self._other, self._unpack = own, other, unpack

    def __iter__(self) -> Iterator[Any]:
        count = 0
        batches = enumerate(self._own.open())
        for index, item in batches:
            place = f"{self._own.place} batch {index}"
            digests = digests_of(_input_only(item, place))
            self._own.remember(index, digests, item)
            if self._other.seen.some_of(digests):
                self._refuse_shared(index, digests, batches)
            yield self._unpack(item, place)
            count = index + 1
        self._own.finish(count)

    def _refuse_shared(self, index: int, digests: bytes, rest: Iterable[tuple[int, Any]]) -> None:
        """Read on to the end, without a model, so that the message tells how many images are shared."""
        theirs = self._other.seen.places()
        first, (batch, image) = next(
            (at, theirs[digest]) for at, digest in enumerate(each(digests)) if digest in theirs
        )
        shared = theirs.keys() & set(each(digests))
        for number, item in rest:
            shared |= theirs.keys() & set(each(digests_of(_input_only(item, f"{self._own.place} batch {number}"))))
        raise DataError(
            f"{stand(len(shared))} also in {self._other.place}; the first is image {image} of its batch {batch}",
            place=f"{self._own.place} batch {index}, image {first}",
            remedy=APART,
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


def checked(dataset: Any) -> Any:
    """`dataset`, of which no image both calibrates and evaluates.

    A data set of the package's or with `fingerprints()` of its own is compared by them, here. Any other one comes back
    wrapped, so that its images are hashed as they go by, and a shared one is met on the second pass at the latest.

    Raises:
        DataError: tells how many images are shared, and the first of them.
    """
    if isinstance(dataset, LoadedBatches | FileImages):  # both look themselves, and read no file more than it takes
        return dataset
    if callable(getattr(dataset, "fingerprints", None)) and check_disjoint(dataset):
        return dataset
    for part in ("calibration", "evaluation"):
        if not callable(getattr(dataset, part, None)):
            remedy = "See pytest_ptq.suite.Dataset for what a data set has."
            raise DataError(f"it has no {part}()", place=name_of(dataset), remedy=remedy)
    return Batches(dataset.calibration, dataset.evaluation, name=name_of(dataset)).load()


def _input_only(item: Any, place: str) -> Tensor:
    return _tensor(item[0] if isinstance(item, (tuple, list)) and item else item, "the input", place)


def _pair(item: Any, place: str) -> tuple[Tensor, Any]:
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise DataError("the batch is no pair of input and labels", place=place, remedy="Give (input, labels).")
    # What the labels are is for those to say who use them: classes, maps, boxes.
    return _tensor(item[0], "the input", place), item[1]


def _classes(item: Any, images: int) -> array[int] | None:
    import torch

    labels = item[1] if isinstance(item, (tuple, list)) and len(item) == 2 else None
    if not isinstance(labels, torch.Tensor) or labels.shape != (images,) or labels.dtype.is_floating_point:
        return None
    return array("q", labels.tolist())


def _tensor(value: Any, what: str, place: str) -> Tensor:
    import torch

    if not isinstance(value, torch.Tensor):
        raise DataError(f"{what} is a {type(value).__name__}, not a tensor", place=place, remedy="Collate to tensors.")
    return value


def _hashes(replayed: _Replayed) -> Iterator[str]:
    for index, item in enumerate(replayed.open()):
        digests = digests_of(_input_only(item, f"{replayed.place} batch {index}"))
        yield from (digest.hex() for digest in each(digests))
