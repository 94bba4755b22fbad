"""The quantizer: nn.Module in, int8 module out."""

from pytest_ptq.engine.artifact import load, save, size_mb
from pytest_ptq.engine.deployment import deploy
from pytest_ptq.engine.export import export_onnx
from pytest_ptq.engine.freeze import freeze
from pytest_ptq.engine.fuse import fuse
from pytest_ptq.engine.inspect import inspect
from pytest_ptq.engine.pipeline import calibrate, convert, prepare, quantize
from pytest_ptq.engine.torchscript import save_torchscript

__all__ = [
    "calibrate",
    "convert",
    "deploy",
    "export_onnx",
    "freeze",
    "fuse",
    "inspect",
    "load",
    "prepare",
    "quantize",
    "save",
    "save_torchscript",
    "size_mb",
]
