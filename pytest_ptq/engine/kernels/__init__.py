"""x86 int8 kernels: packing and calls. Nothing outside this folder names a kernel op.

All of them work on plain uint8 and int8 tensors, channels last.
"""

from pytest_ptq.engine.kernels.elementwise import add, channel_lookup, dequantize, lookup, mean, mul, quantize
from pytest_ptq.engine.kernels.environment import settings
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
from pytest_ptq.engine.kernels.packed import (
    FromPlain,
    PackedConv,
    PackedMaxPool2d,
    PackedQuantize,
    ToPlain,
    has_quantized_tensors,
    onednn_engine,
    run_with_onednn,
)
from pytest_ptq.engine.kernels.pooling import max_pool
from pytest_ptq.engine.kernels.scripted import (
    ReadyConv,
    ReadyFloatConv,
    ReadyLinear,
    ScriptedConv,
    ScriptedKernel,
    ScriptedLinear,
    SizeGuard,
)

__all__ = [
    "ENGINE",
    "FLOAT_ACTIVATIONS",
    "FromPlain",
    "PackedConv",
    "PackedFor",
    "PackedMaxPool2d",
    "PackedQuantize",
    "ReadyConv",
    "ReadyFloatConv",
    "ReadyLinear",
    "ScriptedConv",
    "ScriptedKernel",
    "ScriptedLinear",
    "SizeGuard",
    "ToPlain",
    "add",
    "channel_lookup",
    "conv2d",
    "conv2d_add",
    "dequantize",
    "float_conv2d",
    "float_conv2d_add",
    "has_quantized_tensors",
    "linear",
    "lookup",
    "max_pool",
    "mean",
    "mul",
    "onednn_engine",
    "pack_conv",
    "pack_float_conv2d",
    "pack_linear",
    "quantize",
    "run_with_onednn",
    "saturates_int16",
    "settings",
]
