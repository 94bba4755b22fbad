"""A model that needs no suite file: one that a test brings along, or one that a hook registered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import CaptureError, DataError, UnknownNameError, UsageError
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
    if calibration is None:
        raise UsageError("ptq_check got no calibration data", place=test, remedy="Pass calibration=batches.")
    if model.training:
        raise CaptureError("the model is in training mode", place=test, remedy="Call model.eval() before ptq_check.")
    from pytest_ptq.sources import Batches

    # Only the accuracy gate needs labels, and refuses to go without; the others never look.
    data = Batches(calibration, [] if evaluation is None else evaluation, name=KIND)
    shape = latency_shape or _one_image(data)
    suite = Suite(
        name=_plain(test.replace(f"[{qconfig.name}]", "")),
        variants={KIND: Variant(model=lambda: model, data=data)},
        qconfigs=(qconfig,),
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


def _one_image(data: Batches) -> tuple[int, ...]:
    """The shape of a calibration batch, with a single image in it."""
    for batch in data.load().calibration():
        return (1, *batch.shape[1:])
    raise DataError("the loader gives no batches", place=f"{KIND}, calibration", remedy="Check its folder or filter.")
