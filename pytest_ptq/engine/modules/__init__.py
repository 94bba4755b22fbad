"""Int8 layers: what a converted model consists of. Each holds plain integers and calls one kernel."""

from pytest_ptq.engine.modules.borders import DeQuantize, Int8Layer, IntegerLayer, Quantize
from pytest_ptq.engine.modules.elementwise import (
    QuantizedAdd,
    QuantizedCat,
    QuantizedClamp,
    QuantizedLookup,
    QuantizedMul,
    QuantizedPad,
    QuantizedSub,
    lookup,
)
from pytest_ptq.engine.modules.pooling import (
    QuantizedAdaptiveAvgPool2d,
    QuantizedAvgPool2d,
    QuantizedMaxPool2d,
    QuantizedMean,
)
from pytest_ptq.engine.modules.weighted import (
    QuantizedConv1d,
    QuantizedConv2d,
    QuantizedLinear,
    QuantizedWeighted,
    quantized_conv,
    quantized_linear,
)

__all__ = [
    "DeQuantize",
    "Int8Layer",
    "IntegerLayer",
    "Quantize",
    "QuantizedAdaptiveAvgPool2d",
    "QuantizedAdd",
    "QuantizedAvgPool2d",
    "QuantizedCat",
    "QuantizedClamp",
    "QuantizedConv1d",
    "QuantizedConv2d",
    "QuantizedLinear",
    "QuantizedLookup",
    "QuantizedMaxPool2d",
    "QuantizedMean",
    "QuantizedMul",
    "QuantizedPad",
    "QuantizedSub",
    "QuantizedWeighted",
    "lookup",
    "quantized_conv",
    "quantized_linear",
]
