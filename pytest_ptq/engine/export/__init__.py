"""The int8 graph as ONNX, for the runtimes in which int8 models are deployed."""

from pytest_ptq.engine.export.onnx_file import export_onnx
from pytest_ptq.engine.export.tensors import quantized_tensors, run_quantized
from pytest_ptq.engine.export.tracing import OPSET

__all__ = ["OPSET", "export_onnx", "quantized_tensors", "run_quantized"]
