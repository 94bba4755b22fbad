"""A file in one of the runtimes, called like any other engine: this project's files and everybody else's alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

HERE = Path(__file__).resolve()
SOURCES = (HERE, HERE.parent.parent / "pytest_ptq" / "runtimes")
"""What figures of a file in a runtime depend on, beside the file."""


class InRuntime:
    """A file in a runtime, called like any other engine.

    Args:
        runtime: its name in `pytest_ptq.runtimes`.
        path: the file. It may be gone once this is made.
        example: an input (n, ...), for which kernels are chosen and then counted.
        threads: of one call.
    """

    def __init__(self, runtime: str, path: Path, example: Tensor, threads: int) -> None:
        from pytest_ptq.runtimes import find_runtime

        self._session = find_runtime(runtime).load(path, threads)
        self(example)
        self.kernels = str(self._session.kernels())
        """What it runs, in words; the tables count it."""

    def __call__(self, batch: Tensor) -> Tensor:
        import torch

        found: Any = self._session.run(batch.contiguous().numpy())
        return torch.from_numpy(found)
