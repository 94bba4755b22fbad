"""Which rule for ranges suits a model: several are tried, and the output decides.

No rule wins everywhere: what a range clips a later layer may need, and that no statistic of one tensor tells. One
calibration serves all rules, so that a trial costs a conversion and a run over some images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from pytest_ptq.engine.calibrate import Calibration
from pytest_ptq.engine.convert import convert
from pytest_ptq.engine.correct import compare
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.plan import make_plan
from pytest_ptq.qconfig import QConfig


def choose_observer(
    fused: FusedModule, calibration: Calibration, qconfig: QConfig, images: Sequence[Tensor]
) -> tuple[QConfig, str]:
    """The qconfig with that one of its observers whose outputs have the highest SQNR on `images`, and what was found.

    Args:
        calibration: with histograms, if any of the observers needs them.
        images: batches of calibration inputs.
    """
    found: dict[str, float] = {}
    for name in dict.fromkeys((qconfig.activation_observer, *qconfig.observer_search)):
        candidate = _with(qconfig, name)
        model = convert(fused, make_plan(fused, candidate), calibration, candidate)
        found[name] = compare.sqnr_db(fused, model, images)
    best = max(found, key=lambda name: found[name])
    tried = ", ".join(f"{name} {db:.1f} dB" for name, db in found.items())
    return _with(qconfig, best), f"observer_search: {best}, of {tried}, on {sum(map(len, images))} images"


def _with(qconfig: QConfig, observer: str) -> QConfig:
    percentile = qconfig.percentile if observer == "percentile" else None
    return replace(qconfig, activation_observer=observer, observer_search=(), percentile=percentile)
