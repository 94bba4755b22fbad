"""`export_onnx`: an int8 or a fused model as an ONNX file."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

import pytest_ptq
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.export.floats import float_twin
from pytest_ptq.engine.export.observed import observe_sums
from pytest_ptq.engine.export.placement import placement_for
from pytest_ptq.engine.export.proto import finished, import_onnx
from pytest_ptq.engine.export.sizes import fix_sizes
from pytest_ptq.engine.export.twin import give_quantized_tensors, make_twin
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import StageModule, layer_of
from pytest_ptq.errors import ExportError, StoreError

OPSET = 17
"""The operator set of the files: per-channel DequantizeLinear is in 13, LayerNormalization in 17."""


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
        batches: calibration batches. Where the runtime rounds a sum that the engine does not, before a residual or an
            activation, the range of that sum is then observed; by default it is derived from what surrounds it.
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
        twin: StageModule = make_twin(model, how, {} if batches is None else observe_sums(model, batches))
        if layer_outputs:
            extra = give_quantized_tensors(twin, model)  # type: ignore[arg-type]
    else:
        twin = float_twin(model)
    fix_sizes(twin, x)
    content = _traced(twin, x, extra)
    metadata = {"runtime": runtime, "opset": str(OPSET), **_origin(model)}
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer is deprecated, and remarks on every size that it takes down
            torch.onnx.export(
                flat, (x,), content, dynamo=False, opset_version=OPSET, input_names=["input"], output_names=names,
                dynamic_axes=axes,
            )  # fmt: skip
    except Exception as error:
        raise _refusal(twin, x, error) from error
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
        return [*(f"output{path}" for path, _ in _flattened(answers)), *extra]


def _flattened(value: Any, path: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(path, value)]
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in _flattened(part, f"{path}.{key}")]
    if isinstance(value, (tuple, list)):
        return [leaf for i, part in enumerate(value) for leaf in _flattened(part, f"{path}.{i}")]
    return []


def _refusal(twin: StageModule, x: Tensor, error: Exception) -> ExportError:
    """What cannot be exported, where it stands and why."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    alone, tuple(run.env[n] for n in alone.reads), io.BytesIO(), dynamo=False, opset_version=OPSET
                )
        except Exception:
            op = getattr(node.target, "__name__", node.target)
            return f"layer {node.meta.get('layer', node.name)} ({op})"
    return None


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
