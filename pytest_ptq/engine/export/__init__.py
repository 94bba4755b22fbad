"""The int8 graph as ONNX, for the runtimes in which int8 models are deployed."""

from pytest_ptq.engine.export.tensors import quantized_tensors, run_quantized

__all__ = ["quantized_tensors", "run_quantized"]
