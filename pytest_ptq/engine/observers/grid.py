"""Inputs that come from pixels: at most 256 numbers, equally far apart, which uint8 can hold without any error.

A range rule puts zero on a whole number, and so may lay its integers half a step beside every pixel: of images scaled
to -1..1 no pixel is 0, and the quantized input of the model errs by half a step everywhere. Where the steps of the data
are found, they are used, and zero is left to lie between two integers (`engine/align.py` takes out what that shifts).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_ptq.engine.affine import UINT8, QParams
from pytest_ptq.engine.observers.statistics import Statistics

FEWEST = 128
"""Fewer different values than this are taken for what these data happen to hold, not for all that there is."""
SAMPLE = 2**16
TOLERANCE = 0.02
"""How far beside the grid a value may lie, in steps: float32 keeps less than a thousandth."""


class Grid:
    """Looks for the grid that all values of a tensor lie on, while they stream by."""

    def __init__(self) -> None:
        self._origin = 0.0
        self._step: float | None = None
        self._lost = False

    def add(self, x: Tensor) -> None:
        """Take in a finite tensor of any shape."""
        if self._lost:
            return
        if self._step is None:
            self._find(x)
        if self._step is not None:
            steps = (x.detach().float() - self._origin) / self._step
            self._lost = bool((steps - steps.round()).abs().max() > TOLERANCE)

    def _find(self, x: Tensor) -> None:
        values = x.detach().float().reshape(-1)
        # A look at some of the values spares nearly every tensor the sorting of all.
        few = values[:: max(1, len(values) // SAMPLE)]
        self._lost = not x.is_floating_point() or len(torch.unique(few)) > UINT8[1] + 1
        if self._lost:
            return
        found = torch.unique(values).double()
        if len(found) < FEWEST:
            self._lost = True
            return
        span = float(found[-1] - found[0])
        self._origin, self._step = float(found[0]), span / round(span / float(found.diff().min()))

    @property
    def step(self) -> float | None:
        """How far apart the numbers are; None where they lie on no grid."""
        return None if self._lost else self._step


def grid_qparams(seen: Statistics, bounds: tuple[int, int] = UINT8) -> tuple[QParams, float] | None:
    """Scale and zero point that hold every value on its grid exactly, and how far zero lies above its integer.

    Returns:
        q, shift: a value x is stored as x / q.scale + q.zero_point + shift, -0.5 <= shift <= 0.5, which is a whole
        number. None where the data lie on no grid, or on one with more steps than integers.
    """
    if seen.step is None or bounds != UINT8 or seen.high < 0:
        return None
    first = max(0, round(seen.low / seen.step))
    zero = first - seen.low / seen.step
    if round(seen.high / seen.step + zero) > UINT8[1]:
        return None
    zero_point = min(max(round(zero), 0), UINT8[1])
    return QParams(seen.step, zero_point), zero - zero_point
