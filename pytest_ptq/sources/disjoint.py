"""Calibration and evaluation share no image: held to the fingerprints that a data set tells of its own accord."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pytest_ptq.errors import DataError

APART = "Calibrate on images that are not used for evaluation."


class Fingerprinted(Protocol):
    def fingerprints(self) -> tuple[Iterable[str], Iterable[str]]: ...


def check_disjoint(dataset: Fingerprinted) -> bool:
    """Refuse a data set that evaluates on images that it calibrates with. Reads every fingerprint once.

    Returns:
        False when there was nothing to compare: one of the two parts has no fingerprints.

    Raises:
        DataError: tells how many images are shared, and the first of them by its position.
    """
    calibration, evaluation = dataset.fingerprints()
    position: dict[str, int] = {}
    for index, fingerprint in enumerate(calibration):
        position.setdefault(fingerprint, index)
    compared, shared = 0, dict[str, int]()
    for index, fingerprint in enumerate(evaluation):
        compared += 1
        if fingerprint in position:
            shared.setdefault(fingerprint, index)
    if shared:
        fingerprint, index = next(iter(shared.items()))
        raise DataError(
            f"{stand(len(shared))} both in calibration and in evaluation; the first is calibration image "
            f"{position[fingerprint]}, evaluation image {index}",
            place=name_of(dataset),
            remedy=APART,
        )
    return bool(position) and compared > 0


def stand(count: int) -> str:
    """How many images stand somewhere."""
    return "1 image stands" if count == 1 else f"{count} images stand"


def name_of(dataset: object) -> str:
    """What a data set is called, or is."""
    return str(getattr(dataset, "name", type(dataset).__name__))
