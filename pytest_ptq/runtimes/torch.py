"""torch as a runtime: the int8 model runs where it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


class TorchRuntime:
    """Runs an nn.Module. The interface that every runtime has: load, run, threads, describe."""

    name = "torch"

    def __init__(self) -> None:
        self._model: nn.Module | None = None

    def load(self, model: nn.Module) -> TorchRuntime:
        """Take a model that is ready to run; returns the runtime itself."""
        self._model = model
        return self

    def run(self, x: Tensor) -> Tensor:
        """The model's output for one input batch, without recording gradients."""
        assert self._model is not None, "load a model first"
        with torch.inference_mode():
            y: Tensor = self._model(x)
        return y

    @contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """Compute with `count` threads inside; afterwards with as many as before."""
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(count)
            yield
        finally:
            torch.set_num_threads(before)

    def describe(self) -> Mapping[str, str]:
        """What a record has to know about the runtime."""
        return {"runtime": self.name, "version": torch.__version__, "kernels": "onednn"}
