"""A model that needs no suite file: one that a test brings along, or one that a hook registered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import CaptureError, DataError, UnknownNameError, UsageError
from pytest_ptq.own_int8 import Int8Source, OwnInt8
from pytest_ptq.plugin.gates import CLASSIFICATION
from pytest_ptq.plugin.marker import Marker
from pytest_ptq.plugin.selection import Selection, Tables
from pytest_ptq.qconfig import QConfig
from pytest_ptq.suite import Suite, Variant

if TYPE_CHECKING:
    from torch import nn

    from pytest_ptq.sources import Batches

KIND = "own"


def own_selection(
    test: str,
    qconfig: QConfig,
    model: nn.Module,
    calibration: Any,
    evaluation: Any,
    latency_shape: tuple[int, ...] | None,
    marker: Marker,
) -> Selection:
    """A selection made up for the model of a test. Raises UsageError, CaptureError or DataError."""
    brought = isinstance(qconfig, OwnInt8)
    if calibration is None and not brought:
        raise UsageError("ptq_check got no calibration data", place=test, remedy="Pass calibration=batches.")
    if model.training:
        raise CaptureError("the model is in training mode", place=test, remedy="Call model.eval() before ptq_check.")
    from pytest_ptq.sources import Batches

    # Only the accuracy gate needs labels, and refuses to go without; the others never look.
    data = Batches([] if calibration is None else calibration, [] if evaluation is None else evaluation, name=KIND)
    shape = latency_shape or _one_image(data, evaluates=calibration is None)
    suite = Suite(
        name=_plain(test.partition("[")[0] if brought else test.replace(f"[{qconfig.name}]", "")),
        variants={KIND: Variant(model=lambda: model, data=data)},
        qconfigs=() if brought else (qconfig,),
        int8={qconfig.name: qconfig.source} if isinstance(qconfig, OwnInt8) else {},
        latency_shape=shape,
        metrics=marker.metrics,
        top1=judges_classes(marker),
    )
    return Selection(suite, None, test, KIND, None, (qconfig,))


def judges_classes(marker: Marker) -> bool:
    """With metrics of its own, a test measures top-1 only where it limits it or what stands beside it."""
    return not marker.metrics or bool(CLASSIFICATION & marker.limits.keys())


def registered_selection(test: str, model: str, data: str | None, tables: Tables, marker: Marker) -> Selection:
    """A selection for `@pytest.mark.ptq(model=NAME, data=NAME)`. Raises UsageError or UnknownNameError."""
    if data is None:
        raise UsageError(f"model={model!r} comes without data", place=test, remedy="Add data=NAME to the marker.")
    for kind, name, table in (("model", model, tables.models), ("kind of data", data, tables.datasets)):
        if name not in table:
            raise UnknownNameError(kind, name, table, place=test)
    variant = Variant(model=tables.models[model], data=tables.datasets[data])
    suite = Suite(name=_plain(model), variants={data: variant}, metrics=marker.metrics, top1=judges_classes(marker))
    return Selection(suite, None, test, data, None, ())


def _plain(name: str) -> str:
    """`tests/test_a.py::test_b` -> `tests.test_a.test_b`: what a suite may be called, and one name for one test."""
    dotted = name.replace(".py::", ".").replace("::", ".").replace("/", ".")
    return re.sub(r"[^\w.-]+", "_", dotted, flags=re.ASCII).strip("_")


def _one_image(data: Batches, *, evaluates: bool) -> tuple[int, ...]:
    """The shape of a batch, with a single image in it. `evaluates`: there is nothing to calibrate with."""
    if evaluates:
        for images, _ in data.load().evaluation():
            return (1, *images.shape[1:])
    else:
        for batch in data.load().calibration():
            return (1, *batch.shape[1:])
    place = f"{KIND}, {'evaluation' if evaluates else 'calibration'}"
    raise DataError("the loader gives no batches", place=place, remedy="Check its folder or filter.")


def given_int8(int8: object, folder: Path, marker: Marker, place: str) -> OwnInt8:
    """What `ptq_check(model, int8=...)` was given, under the name `int8`.

    Args:
        folder: of the test's file, which a relative path is taken from.

    Raises UsageError, SuiteError: it is no model, or stands beside qconfigs, which make one.
    """
    from pytest_ptq.sources import ExportedProgram, OnnxFile, OpenVINOFile, TorchScriptFile

    if marker.qconfigs:
        remedy = "Take qconfigs out of @pytest.mark.ptq(...), or int8 out of ptq_check(...)."
        raise UsageError("qconfigs are given, and a model that is int8 already", place=place, remedy=remedy)
    if isinstance(int8, str | Path):
        kinds = (OnnxFile, OpenVINOFile, ExportedProgram, TorchScriptFile)
        suffix = Path(int8).suffix.lower()
        kind = next((kind for kind in kinds if suffix in kind.suffixes), None)
        if kind is None:
            known = ", ".join(end for kind in kinds for end in kind.suffixes)
            raise UsageError(f"{str(int8)!r} is no file with an int8 model", place=place, remedy=f"Known: {known}.")
        int8 = kind(int8)
    if isinstance(int8, Int8Source):
        return OwnInt8.of(GIVEN, int8.at(folder))
    made = int8
    return OwnInt8.of(GIVEN, (lambda: made) if hasattr(int8, "state_dict") else int8)


GIVEN = "int8"
"""What the model of `ptq_check(model, int8=...)` is called in tables and records."""
