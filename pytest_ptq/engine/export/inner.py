"""Ranges of what a runtime has to round where the engine does not: a convolution before what follows it.

The engine adds a residual or computes a hardswish in the convolution's own kernel, and rounds once. A runtime whose
convolution writes integers rounds before that, too. The range of this tensor loses least when it holds no more than
what the output tells apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pytest_ptq.engine.affine import QParams, choose_qparams

Range = tuple[float, float]
"""The smallest and the largest number."""
POINTS = 1 << 16
"""Points at which a function is looked at."""
FURTHEST = 64.0
"""How far beyond the output's range a function is looked at: all saturate, or grow at least by a hundredth."""
SHARE = 1 / 8
"""Part of a step that cutting off may cost, beside the rounding itself."""


def real_range(q: QParams) -> Range:
    """The smallest and the largest number that is stored."""
    return (q.quant_min - q.zero_point) * q.scale, (q.quant_max - q.zero_point) * q.scale


def before_activation(function: Callable[[Tensor], Tensor], out: QParams) -> Range:
    """The shortest interval outside of which nothing changes f(x), as `out` stores it, by SHARE of a step or more."""
    low, high = real_range(out)
    reach = FURTHEST + max(-low, high)
    x = torch.linspace(-reach, reach, 2 * POINTS + 1, dtype=torch.float64)
    y = function(x).clamp_(low, high)
    centre = POINTS
    # Cut off at x[i], everything below becomes y[i]: right for as long as the farthest of them is within half a step.
    tolerance = out.scale * SHARE
    left, right = y[: centre + 1], y[centre:]
    below = torch.maximum((left.cummax(0).values - left).abs(), (left - left.cummin(0).values).abs())
    flipped = right.flip(0)
    above = torch.maximum((flipped.cummax(0).values - flipped).abs(), (flipped - flipped.cummin(0).values).abs())
    first = _last_within(below, tolerance)
    last = len(right) - 1 - _last_within(above, tolerance)
    return float(x[first]), float(x[centre + last])


def _last_within(errors: Tensor, tolerance: float) -> int:
    """The last index up to which every error is below the tolerance."""
    beyond = (errors >= tolerance).nonzero()
    return int(beyond[0]) - 1 if len(beyond) else len(errors) - 1


def before_addition(out: QParams, residual: QParams) -> Range:
    """What a sum within the output's range and a residual within its own leave to the other summand."""
    low, high = real_range(out)
    least, most = real_range(residual)
    return low - most, high - least


def narrowed(bounds: Range, seen: Range | None) -> Range:
    """No wider than what was seen."""
    return bounds if seen is None else (max(bounds[0], seen[0]), min(bounds[1], seen[1]))


def inner_qparams(bounds: Range) -> QParams:
    """Scale and zero point of an inner range."""
    return choose_qparams(bounds[0], max(bounds))
