"""Observed graph + batches -> Calibration: statistics leave the graph as an immutable value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pytest_ptq.engine.affine import QParams, choose_qparams, half_steps
from pytest_ptq.engine.forward import StageRunner, run_stage
from pytest_ptq.engine.observe import PreparedModule
from pytest_ptq.engine.observers import OBSERVERS, Statistics, extremes, grid_qparams
from pytest_ptq.engine.plan import QSpec, QuantPlan
from pytest_ptq.errors import DataError, QuantizationError
from pytest_ptq.heap import kept_heap

Progress = Callable[[Iterable[Any], str, int | None], Iterator[Any]]


@dataclass(frozen=True)
class Calibration:
    """Statistics by tensor name. One calibration serves every qconfig whose observers need no more than it holds."""

    statistics: Mapping[str, Statistics]
    images: int

    def qparams(self, plan: QuantPlan) -> dict[str, QParams]:
        """Scale and zero point of every tensor that the plan observes.

        Raises:
            QuantizationError: a tensor was not calibrated, or without the histogram that its observer needs.
        """
        chosen: dict[str, QParams] = {}
        for name, spec in plan.observed.items():
            row, seen = OBSERVERS[spec.observer], self.statistics.get(name)
            if seen is None or (row.needs_histogram and seen.counts is None):
                raise QuantizationError(
                    f"the calibration holds nothing that the {spec.observer} observer could use",
                    stage="calibrate",
                    place=name,
                    remedy="Calibrate with this qconfig, or with one that collects histograms.",
                )
            chosen[name] = qparams_of(seen, spec)
        return chosen

    def shifts(self, plan: QuantPlan) -> dict[str, float]:
        """How far zero lies above its integer, in steps, for tensors whose values lie on a grid that is kept to."""
        grids = {n: _on_grid(self.statistics[n], spec) for n, spec in plan.observed.items() if n in self.statistics}
        return {name: found[1] for name, found in grids.items() if found is not None}


def qparams_of(seen: Statistics, spec: QSpec) -> QParams:
    """Scale and zero point of one tensor."""
    on_grid = _on_grid(seen, spec)
    if on_grid is not None:
        return on_grid[0]
    rule = OBSERVERS[spec.observer].choose_range
    options = {} if spec.percentile is None else {"percentile": spec.percentile}
    if not spec.symmetric or seen.low >= 0:
        return choose_qparams(*rule(seen, spec.bounds, **options), spec.bounds)
    # A symmetric range is one of magnitudes, which have half of the integers.
    _, reach = rule(seen.magnitudes(), (0, half_steps(spec.bounds)), **options)
    return choose_qparams(-reach, reach, spec.bounds, symmetric=True)


def _on_grid(seen: Statistics, spec: QSpec) -> tuple[QParams, float] | None:
    return None if spec.symmetric else grid_qparams(seen, spec.bounds)


def calibrate(prepared: PreparedModule, batches: Iterable[Any], progress: Progress | None = None) -> Calibration:
    """Feed batches through a prepared model.

    Args:
        prepared: from `prepare`.
        batches: tensors (N, C, H, W), or (tensor, labels) pairs as a DataLoader gives them.
        progress: called as progress(batches, title, total); must yield the batches.

    Raises:
        DataError: no batch at all, or one that is no tensor, holds NaN or Inf, or does not fit the model.
    """
    total = len(batches) if isinstance(batches, Sized) else None
    shown = progress(batches, "calibrating", total) if progress else iter(batches)
    runner, images = StageRunner(prepared), 0
    with torch.inference_mode(), kept_heap():
        for number, batch in enumerate(shown):
            x = check_batch(batch, number)
            run_stage(runner, x, f"calibration batch {number}")
            images += len(x)
    if not images:
        raise DataError("no calibration batch", stage="calibrate", remedy="Give at least one batch of real inputs.")
    return collected(prepared, images)


def collected(prepared: PreparedModule, images: int = 0) -> Calibration:
    """What the observers of a prepared model have seen, also when a person ran it by hand."""
    return Calibration({name: observer.statistics() for name, observer in prepared.observers().items()}, images)


def check_batch(batch: Any, number: int, kind: str = "calibration") -> Tensor:
    """The input tensor of a batch, refused when it is none, empty or not finite."""
    x = batch[0] if isinstance(batch, (list, tuple)) and batch else batch
    place = f"{kind} batch {number}"
    if not isinstance(x, Tensor):
        raise DataError(
            f"expected a tensor, found {type(x).__name__}", place=place, remedy="Yield tensors or (tensor, labels)."
        )
    if not x.numel():
        raise DataError(f"the batch is empty (shape {tuple(x.shape)})", place=place)
    if x.is_floating_point() and not all(map(math.isfinite, extremes(x))):
        raise DataError(
            "the batch holds NaN or Inf", place=place, remedy="Clean the data: one such value spoils every range."
        )
    return x
