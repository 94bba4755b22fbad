"""A list of steps, placed in memory and ready to run."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pytest_ptq.engine.kernels.native import library, structures
from pytest_ptq.engine.kernels.native.arena import Buffer, place
from pytest_ptq.engine.kernels.native.steps import Step, border

INPUTS = (structures.QuantizeStruct, structures.FloatInput)
"""What takes the input."""


class Program:
    """Steps over fixed memory: one input, one output, one caller at a time.

    Args:
        steps: in order. One takes the input, and is told at every call where that lies.
        y: float32, where the last one leaves its result.

    layers: of the model, one for each step.

    Raises:
        UnavailableError: this machine has no compiled kernels.
    """

    def __init__(self, steps: Sequence[Step], y: Tensor) -> None:
        self._run = library.load().ptq_run
        all_steps = _with_borders(steps)
        self.layers = [step.layer for step in all_steps]
        self.y, self.memory = y, place([step.buffers for step in all_steps])
        made = [step.make() for step in all_steps]
        self._kept = made  # structures, and the arrays that they point to
        (self._input,) = [s for s, _ in made if isinstance(s, INPUTS) and s.x is None]
        self._steps = (structures.StepStruct * len(made))(
            *(
                structures.StepStruct(structures.KINDS.index(step.kind), ctypes.addressof(struct))
                for step, (struct, _) in zip(all_steps, made, strict=True)
            )
        )

    def __call__(self, x: Tensor) -> Tensor:
        """float32 (N, C, H, W) -> float32, a tensor of its own."""
        self._take(x)
        self._run(self._steps, len(self._steps), torch.get_num_threads(), None)
        return self.y.clone()

    def seconds(self, x: Tensor) -> list[float]:
        """How long each step takes in one call, in the order of `kinds`."""
        self._take(x)
        taken = (ctypes.c_double * len(self._steps))()
        self._run(self._steps, len(self._steps), torch.get_num_threads(), taken)
        return list(taken)

    def _take(self, x: Tensor) -> None:
        where = self._input
        where.x = x.data_ptr()
        where.image, where.channel, where.row, where.column = x.stride()

    @property
    def kinds(self) -> list[str]:
        """What each step is."""
        return [structures.KINDS[step.kind] for step in self._steps]

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        raise TypeError("a program of compiled kernels has addresses in it and cannot be copied")


def _with_borders(steps: Sequence[Step]) -> list[Step]:
    """Borders are filled before what lies inside them is written: memory is used again."""
    made: list[Step] = []
    seen: set[Buffer] = set()
    for step in steps:
        for view in step.writes:
            if any(view.buffer.border) and view.buffer not in seen:
                made.append(border(view.buffer, step.layer))
            seen.add(view.buffer)
        made.append(step)
    return made
