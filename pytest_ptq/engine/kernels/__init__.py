"""x86 int8 kernels: packing and calls. Nothing outside this folder names a kernel op.

All of them work on plain uint8 and int8 tensors, channels last.
"""

from pytest_ptq.engine.kernels.elementwise import add, channel_lookup, dequantize, lookup, mean, mul, quantize
from pytest_ptq.engine.kernels.onednn import (
    ENGINE,
    FLOAT_ACTIVATIONS,
    PackedFor,
    conv2d,
    conv2d_add,
    float_conv2d,
    float_conv2d_add,
    linear,
    pack_conv,
    pack_float_conv2d,
    pack_linear,
    saturates_int16,
)
from pytest_ptq.engine.kernels.pooling import max_pool
from pytest_ptq.engine.kernels.scripted import ScriptedConv, ScriptedKernel, ScriptedLinear, SizeGuard

__all__ = [
    "ENGINE",
    "FLOAT_ACTIVATIONS",
    "PackedFor",
    "ScriptedConv",
    "ScriptedKernel",
    "ScriptedLinear",
    "SizeGuard",
    "add",
    "channel_lookup",
    "conv2d",
    "conv2d_add",
    "dequantize",
    "float_conv2d",
    "float_conv2d_add",
    "linear",
    "lookup",
    "max_pool",
    "mean",
    "mul",
    "pack_conv",
    "pack_float_conv2d",
    "pack_linear",
    "quantize",
    "saturates_int16",
]
