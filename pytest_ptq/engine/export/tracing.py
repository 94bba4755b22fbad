"""torch's exporter, and which layer it stumbles over."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from pytest_ptq.engine.graph import StageModule, layer_of
from pytest_ptq.errors import ExportError

OPSET = 17
"""The operator set of the files: DequantizeLinear by channels is in 13, LayerNormalization in 17."""


def trace(module: nn.Module, inputs: tuple[Any, ...], content: io.BytesIO, **names: Any) -> None:
    """Write a module as the exporter that needs no further package does. Raises whatever the exporter raises."""
    export: Any = torch.onnx.export
    # It is deprecated, remarks on every size that it takes down, and prints whole graphs where it fails.
    with warnings.catch_warnings(), _no_prints():
        warnings.simplefilter("ignore")
        export(module, inputs, content, dynamo=False, opset_version=OPSET, **names)


@contextlib.contextmanager
def _no_prints() -> Iterator[None]:
    """What C++ writes to the standard output goes nowhere, whatever Python calls by that name."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def refusal(twin: StageModule, x: Tensor, error: Exception) -> ExportError:
    """What cannot be exported, where it stands and why."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    reason = re.split(r"\.? Please |\. |  \[Caused", first)[0].rstrip(".")
    place = _first_that_fails(twin, x)
    return ExportError(
        f"it cannot be written as ONNX ({reason})",
        place=place,
        remedy="Write that layer otherwise, or run the model in torch.",
    )


class _Alone(nn.Module):
    """One node of a graph, with the values that it reads."""

    def __init__(self, stage: StageModule, node: fx.Node, env: dict[fx.Node, Any]) -> None:
        super().__init__()
        self.stage, self.node, self.env = stage, node, env
        self.reads = [n for n in node.all_input_nodes if isinstance(env[n], Tensor)]

    def forward(self, *tensors: Tensor) -> Any:
        given = {**self.env, **dict(zip(self.reads, tensors, strict=True))}
        args, kwargs = fx.map_arg((self.node.args, self.node.kwargs), lambda n: given[n])
        if self.node.op == "call_method":
            return getattr(args[0], str(self.node.target))(*args[1:], **kwargs)
        function: Any = layer_of(self.stage, self.node) or self.node.target
        return function(*args, **kwargs)


class _AllValues(fx.Interpreter):
    """Runs a graph and keeps every value."""

    def __init__(self, stage: StageModule) -> None:
        super().__init__(stage, garbage_collect_values=False)


def _first_that_fails(twin: StageModule, x: Tensor) -> str | None:
    """The first layer that cannot be exported by itself; None where they only fail together."""
    run = _AllValues(twin)
    run.run(x)
    for node in twin.graph.nodes:
        if node.op not in ("call_module", "call_function", "call_method"):
            continue
        alone = _Alone(twin, node, dict(run.env))
        try:
            trace(alone, tuple(run.env[n] for n in alone.reads), io.BytesIO())
        except Exception:
            layer = layer_of(twin, node)
            op = getattr(node.target, "__name__", node.target) if layer is None else type(layer).__name__
            return f"layer {node.meta.get('layer', node.name)} ({op})"
    return None
