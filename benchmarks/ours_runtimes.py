"""This project's int8 and fp32 models in the runtimes that people deploy, as engines beside the rivals'.

Both are exported once, as a suite does, and loaded through `pytest_ptq.runtimes`: the same threads and settings for
this project's files and for everybody else's.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.in_runtime import SOURCES, InRuntime
from benchmarks.rivals.rival import Predict, Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

QCONFIG = "x86"


def int8(model: nn.Module, calibration: list[Tensor], settings: Settings, *, runtime: str) -> Predict:
    """`quantize`, `export_onnx` for the runtime, and the runtime itself."""
    from pytest_ptq import engine

    quantized = engine.quantize(model, calibration, QCONFIG)
    with tempfile.TemporaryDirectory() as name:
        path = engine.export_onnx(
            quantized, Path(name) / "int8.onnx", calibration[0][:1], runtime=runtime, batches=calibration
        )
        return InRuntime(runtime, path, calibration[0][:1], settings.threads)


def fp32(model: nn.Module, calibration: list[Tensor], settings: Settings, *, runtime: str) -> Predict:
    """The fair fp32, batch norms folded, in the same runtime."""
    from pytest_ptq import engine

    with tempfile.TemporaryDirectory() as name:
        path = engine.export_onnx(engine.fuse(model), Path(name) / "fp32.onnx", calibration[0][:1], runtime=runtime)
        return InRuntime(runtime, path, calibration[0][:1], settings.threads)


ENGINE = Path(__file__).resolve().parent.parent / "pytest_ptq" / "engine"
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def key(stage: str, runtime: str) -> str:
    return f"{stage}_{runtime}"


RIVALS = tuple(
    Rival(
        key(stage, runtime), title.format(TITLES[runtime]), __name__, (), partial(make, runtime=runtime),
        (ENGINE, *SOURCES),
    )
    for runtime in TITLES
    for stage, title, make in (("fp32", "fp32 in {}", fp32), ("int8", "**int8, this, in {}**", int8))
)  # fmt: skip
"""Called so because that is where a process of its own looks an engine up."""
