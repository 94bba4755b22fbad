"""Histograms by compiled code: what counting costs is then hidden behind reading the values."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_ptq.engine.kernels.native import library

BINS = 4096
RUN = 4096
"""Values that a thread counts at a time where all of them count."""


def count(x: Tensor, run: int, every: int, limit: float, counts: Tensor) -> bool:
    """Add to `counts` how many values of `x` lie in each of BINS bins over -limit..limit, without exact zeros.

    Args:
        x: float32 (images, ...), contiguous; all of its values lie within the limit.
        run: how many values lie together of which all count or none.
        every: of the runs of an image one in so many counts, for so many, from the middle one of the first so many on.
        limit: a power of two; its reciprocal is finite.
        counts: float64 (BINS,), contiguous.

    Returns:
        False, with nothing added, where this machine has no compiled kernels, or they do not read what `x` is.
    """
    if x.dtype is not torch.float32 or not x.is_contiguous() or library.why_not():
        return False
    images, values = (len(x), x[0].numel()) if every > 1 else (1, x.numel())
    library.load().ptq_count(
        x.data_ptr(), images, values, run if every > 1 else RUN, every // 2 if every > 1 else 0, every,
        BINS / 2 / limit, torch.get_num_threads(), counts.data_ptr(),
    )  # fmt: skip
    return True
