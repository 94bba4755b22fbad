"""`export_onnx`: an int8 or a fused model as an ONNX file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pytest_ptq
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.export.floats import float_twin
from pytest_ptq.engine.export.observed import observe_sums
from pytest_ptq.engine.export.placement import placement_for
from pytest_ptq.engine.export.proto import STAGE, finished, import_onnx
from pytest_ptq.engine.export.sizes import fix_sizes
from pytest_ptq.engine.export.tracing import refusal, trace
from pytest_ptq.engine.export.twin import give_quantized_tensors, make_twin
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import StageModule
from pytest_ptq.errors import ExportError, StoreError


@torch.no_grad()
def export_onnx(
    model: QuantizedModule | FusedModule,
    path: str | os.PathLike[str],
    example: Tensor,
    *,
    runtime: str = "onnxruntime",
    batches: Iterable[Any] | None = None,
    layer_outputs: bool = False,
) -> Path:
    """Write a model as ONNX, atomically: int8 by QuantizeLinear and DequantizeLinear, with the scales it has.

    Weights are int8 with one scale an output channel, biases int32, activations uint8. The batch size is free, every
    other size is the example's. The same model gives the same bytes.

    Args:
        model: what `quantize`, `convert` or `load` returned, or, for the fair fp32, what `fuse` returned.
        path: the file.
        example: an input (N, ...) of the model, float32.
        runtime: whose fusions the pairs are placed for: `onnxruntime` or `openvino`.
        batches: calibration batches. Where the runtime rounds a convolution's sums before a residual, which the engine
            does not, their range is then observed; by default it is derived from the output's and the residual's.
        layer_outputs: let every quantized tensor be a further output of the file, float32, named by its layer's path
            (`quantized_tensors` lists them).

    Raises:
        ExportError: it is neither an int8 nor a fused model, or a layer has no form in ONNX.
        InstallationError: the onnx package is missing.
        StoreError: the file cannot be written.
        UnknownNameError: there is no such runtime.
    """
    how = placement_for(runtime)
    import_onnx()
    if not isinstance(model, (QuantizedModule, FusedModule)):
        raise ExportError(
            f"export_onnx was given a {type(model).__name__}",
            remedy="Give it what quantize, convert, load or fuse returned.",
        )
    extra: list[str] = []
    # With two images, no tracer takes a batch of one for something that broadcasts.
    x = torch.cat([example[:1], example[:1]])
    if isinstance(model, QuantizedModule):
        seen = observe_sums(model, batches) if batches is not None and how.rounds_convolutions else {}
        twin: StageModule = make_twin(model, how, seen)
        if layer_outputs:
            extra = give_quantized_tensors(twin, model)  # type: ignore[arg-type]
    else:
        twin = float_twin(model)
    fix_sizes(twin, x)
    content = _traced(twin, x, extra)
    metadata = {"runtime": runtime, **_origin(model)}
    try:
        payload = finished(content, metadata, pytest_ptq.__version__, extra)
    except ValueError as error:  # what a file in memory cannot hold
        raise ExportError(f"the file is no legal ONNX ({error})") from error
    return _write(Path(path), payload)


def _traced(twin: StageModule, x: Tensor, extra: list[str]) -> bytes:
    """The twin as the exporter that needs no further package writes it."""
    flat = _Flat(twin)
    names = flat.names(x, extra)
    axes = {name: {0: "batch"} for name in ("input", *names)}
    content = io.BytesIO()
    try:
        trace(flat, (x,), content, input_names=["input"], output_names=names, dynamic_axes=axes)
    except Exception as error:
        raise refusal(twin, x, error) from error
    return content.getvalue()


class _Flat(nn.Module):
    """A stage whose outputs are a flat tuple: what ONNX has."""

    def __init__(self, stage: StageModule) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(value for _, value in _flattened(self.stage(x)))

    def names(self, x: Tensor, extra: list[str]) -> list[str]:
        """`output`, or a name for each of several: the key of a dictionary, or `output.0`, `output.1`."""
        found = self.stage(x)
        answers = found[0] if extra else found
        return [*(f"output{path}" for path, _ in _flattened(answers)), *(f"{STAGE}{path}" for path in extra)]


def _flattened(value: Any, path: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(path, value)]
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in _flattened(part, f"{path}.{key}")]
    if isinstance(value, (tuple, list)):
        return [leaf for i, part in enumerate(value) for leaf in _flattened(part, f"{path}.{i}")]
    return []


def _origin(model: QuantizedModule | FusedModule) -> dict[str, str]:
    """What the model is, and what it was quantized with."""
    if isinstance(model, FusedModule):
        return {"stage": model.stage}
    made = model.made or {"qconfig": model.qconfig.name, "reduce_range": model.plan.reduce_range}
    found = {"stage": model.stage, "qconfig": str(made.get("qconfig", ""))}
    return {**found, "reduce_range": str(bool(made.get("reduce_range"))).lower()}


def _write(target: Path, payload: bytes) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            partial.write_bytes(payload)
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"cannot write the ONNX file: {error.strerror}", place=str(target)) from error
    return target
