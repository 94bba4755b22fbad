"""The int8 graph run on what somebody else's layers wrote: what each layer makes of the very same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.export.tensors import rounded_nodes


class _OnGiven(fx.Interpreter):
    """Runs the int8 graph; what a layer has written is kept, and in its place the given integers go on."""

    def __init__(self, model: QuantizedModule, given: Mapping[str, Tensor]) -> None:
        super().__init__(model)
        self.paths = {node: path for path, node in rounded_nodes(model).items()}
        self.given, self.kept = given, dict[str, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        path = self.paths.get(n)
        if path is None:
            return value
        self.kept[path] = value.clone()
        given = self.given.get(path)
        # In the memory layout that the kernels behind it expect.
        return value if given is None or given.shape != value.shape else torch.empty_like(value).copy_(given)


@torch.inference_mode()
def run_on_given(model: QuantizedModule, x: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What each quantized tensor would hold, were everything before it what another runtime has written.

    So a difference is a layer's own, and not what became of a difference before it.

    Args:
        x: inputs (N, ...).
        given: integers from 0 to 255 by layer path, as `quantized_tensors` lists them.

    Returns:
        uint8 by layer path, in graph order.
    """
    run = _OnGiven(model, given)
    run.run(x)
    return run.kept
