"""Compiled kernels for x86 with AVX512-VNNI: a whole model is one call, and no step of it asks torch for anything.

torch's own calls take 10 to 30 us beside the arithmetic, which on small layers is most of the time. Here addresses,
weights and rounding are settled when a program is built. Sums are exact int32, scaling fp32, rounding half to even.
"""

from pytest_ptq.engine.kernels.native.arena import Buffer, View, image
from pytest_ptq.engine.kernels.native.float_steps import (
    Ending,
    float_addition,
    float_copy,
    float_depthwise,
    float_input,
    float_interleave,
    float_norm,
    float_pool,
    float_product,
    float_scaling,
)
from pytest_ptq.engine.kernels.native.library import UnavailableError, check, why_not
from pytest_ptq.engine.kernels.native.multiplying import multiply
from pytest_ptq.engine.kernels.native.observing import count
from pytest_ptq.engine.kernels.native.program import Program
from pytest_ptq.engine.kernels.native.steps import (
    SHARED,
    Geometry,
    Rounding,
    Step,
    Windows,
    addition,
    average,
    copy,
    depthwise,
    dequantize,
    interleave,
    maximum,
    mean,
    product,
    quantize,
    quantize_view,
    scaling,
)
from pytest_ptq.engine.kernels.native.structures import ACTIVATIONS

__all__ = [
    "ACTIVATIONS",
    "SHARED",
    "Buffer",
    "Ending",
    "Geometry",
    "Program",
    "Rounding",
    "Step",
    "UnavailableError",
    "View",
    "Windows",
    "addition",
    "average",
    "check",
    "copy",
    "count",
    "depthwise",
    "dequantize",
    "float_addition",
    "float_copy",
    "float_depthwise",
    "float_input",
    "float_interleave",
    "float_norm",
    "float_pool",
    "float_product",
    "float_scaling",
    "image",
    "interleave",
    "maximum",
    "mean",
    "multiply",
    "product",
    "quantize",
    "quantize_view",
    "scaling",
    "why_not",
]
