"""Exported files run in the runtimes they were made for, for the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from engine.nets import run
from pytest_ptq import engine
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.export import quantized_tensors
from pytest_ptq.engine.inspect.given import run_on_given

RUNTIMES = ("onnxruntime", "openvino")


def answers(path: Path, x: Tensor, runtime: str) -> dict[str, Tensor]:
    """Every output of a file, by name."""
    (found,) = answers_to_each(path, [x], runtime)
    return found


def answers_to_each(path: Path, inputs: Sequence[Tensor], runtime: str) -> list[dict[str, Tensor]]:
    """`answers` to several inputs of one session, which takes longer to make than to run."""
    return (_onnxruntime if runtime == "onnxruntime" else _openvino)(path, inputs)


def _session(path: Path, optimized: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _onnxruntime(path: Path, inputs: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    session = _session(path)
    names = [output.name for output in session.get_outputs()]
    found = [session.run(None, {"input": x.numpy()}) for x in inputs]
    return [dict(zip(names, map(torch.from_numpy, values), strict=True)) for values in found]


def _compiled(path: Path) -> Any:
    import openvino

    # Float operations in float32, not in bfloat16 where the CPU has it.
    wanted = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(str(path), "CPU", wanted)


def _openvino(path: Path, inputs: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    model, answered = _compiled(path), []
    for x in inputs:
        found = model(x.numpy())
        # What several names stand for is one output with all of them.
        answered.append({name: torch.from_numpy(found[o].copy()) for o in model.outputs for name in o.get_names()})
    return answered


def kernels(path: Path, runtime: str) -> Counter[str]:
    """What a runtime really executes: ONNX Runtime's operators, OpenVINO's layers with their precision."""
    if runtime == "onnxruntime":
        optimized = path.with_suffix(".optimized.onnx")
        _session(path, optimized)
        return Counter(node.op_type for node in onnx.load(optimized).graph.node)
    counts: Counter[str] = Counter()
    for op in _compiled(path).get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        kind, precision = (str(info[key].value) for key in ("layerType", "runtimePrecision"))
        counts[f"{kind}.{precision}"] += 1
    return counts


def steps_apart(model: QuantizedModule, path: Path, x: Tensor, runtime: str) -> dict[str, int]:
    """By how many steps each quantized tensor of a file with `layer_outputs` differs at most.

    From what torch's layer makes of the same inputs: what the runtime's layers before it have written.
    """
    found = answers(path, x, runtime)
    stored = {
        layer: (torch.round(found[layer] / q.scale) + q.zero_point).byte()
        for layer, q in quantized_tensors(model).items()
    }
    expected = run_on_given(model, x, stored)
    return {layer: int((stored[layer].int() - expected[layer].int()).abs().max()) for layer in stored}


def check(
    net: nn.Module,
    x: Tensor,
    folder: Path,
    runtimes: Iterable[str] = RUNTIMES,
    steps: int = 1,
    qconfig: Any = "x86",
    batches: list[Tensor] | None = None,
) -> dict[str, Counter[str]]:
    """Export for each runtime, and hold every quantized tensor and the answer against torch's. Returns the kernels."""
    quantized = engine.quantize(net, [x], qconfig)
    expected, counted = run(quantized, x), {}
    for runtime in runtimes:
        path, layers = folder / f"{runtime}.onnx", folder / f"{runtime}-layers.onnx"
        engine.export_onnx(quantized, path, x[:1], runtime=runtime, batches=batches)
        engine.export_onnx(quantized, layers, x[:1], runtime=runtime, batches=batches, layer_outputs=True)
        apart = steps_apart(quantized, layers, x, runtime)
        assert max(apart.values()) <= steps, (runtime, apart)
        found, alone = (answered["output"] for answered in answers_to_each(path, [x, x[:1]], runtime))
        assert found.shape == expected.shape
        reach = float(expected.abs().max())
        assert float((found - expected).abs().max()) <= 0.05 * steps * reach, runtime
        assert alone.shape == expected[:1].shape
        counted[runtime] = kernels(path, runtime)
    return counted
