"""pytest-ptq: keeps int8 models honest.

A pytest plugin and regression harness for post-training static quantization of PyTorch models on x86 CPUs.
Public names are resolved on first use, so that importing the package imports neither torch nor the engine.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "pytest_ptq.errors": ("PTQError",),
    "pytest_ptq.metrics": ("Direction", "Judgement", "Limit", "Measurement", "Metric", "Verdict"),
    "pytest_ptq.qconfig": ("QConfig", "get_qconfig"),
    "pytest_ptq.suite": ("Suite", "Variant"),
    "pytest_ptq.measure.accuracy": ("evaluate",),
    "pytest_ptq.measure.custom": ("MetricSource",),
    "pytest_ptq.sources": (
        "Batches", "EfficientNetLite0", "ExportedProgram", "FashionMNIST", "ImageFolder", "ImageNet", "OnnxFile",
        "OpenVINOFile", "TorchScriptFile", "TorchvisionModel",
    ),
    "pytest_ptq.engine": (
        "calibrate", "convert", "deploy", "export_onnx", "freeze", "fuse", "inspect", "load", "prepare", "quantize",
        "save", "save_torchscript", "size_mb",
    ),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
