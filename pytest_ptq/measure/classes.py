"""Which of the classes that are evaluated the calibration images cover."""

from __future__ import annotations

from collections.abc import Collection

from pytest_ptq.errors import DataError
from pytest_ptq.metrics import CALIBRATION_CLASSES, Measurement

UNSEEN_SHOWN = 5
"""How many of the classes that calibration never saw are named."""


def class_coverage(
    calibration: Collection[int], evaluation: Collection[int], outputs: int, *, predicted: bool = False
) -> dict[str, Measurement]:
    """How many of the classes that evaluation asks for the calibration images cover.

    A class that calibration never saw may drive activations beyond every range that was chosen.

    Args:
        calibration: class of each calibration image.
        evaluation: labels of the evaluation images.
        outputs: how many classes the model has.
        predicted: the calibration images have no labels; these are the classes that the float model gives them.
    """
    for part, images in (("calibration", calibration), ("evaluation", evaluation)):
        if not images:
            raise DataError(f"there is no {part} image", remedy=f"Check the {part} data: its loader is empty.")
    asked, seen = set(evaluation), set(calibration)
    unseen = sorted(asked - seen)
    details: dict[str, float | int | str] = {
        "calibration_images": len(calibration),
        "calibration_classes": len(asked & seen),
        "classes": len(asked),
        "model_classes": outputs,
        "class_source": "fp32 predictions" if predicted else "labels",
    }
    if unseen:
        more = ", ..." if len(unseen) > UNSEEN_SHOWN else ""
        details["unseen_classes"] = ", ".join(map(str, unseen[:UNSEEN_SHOWN])) + more
    share = 100 * (1 - len(unseen) / len(asked))
    found = Measurement(CALIBRATION_CLASSES, share, samples=len(calibration), details=details)
    return {CALIBRATION_CLASSES.key: found}
