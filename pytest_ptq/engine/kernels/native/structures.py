"""The structures of `program.h`, field by field."""

from __future__ import annotations

from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from typing import ClassVar

KINDS = (
    "product", "depthwise", "quantize", "scaling", "addition", "mean", "maximum", "average", "copy", "interleave",
    "border", "float_product", "float_depthwise", "float_input", "float_scaling", "float_addition", "float_pool",
    "float_copy", "float_interleave", "dequantize", "float_norm",
)  # fmt: skip
"""In the order of `enum kind`."""
ACTIVATIONS = ("none", "hardswish", "silu", "sigmoid", "tanh", "leaky_relu", "gelu", "gelu_tanh")
"""In the order of `enum activation`."""


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class Rounding(Structure):
    _fields_: ClassVar = [
        *_fields(c_void_p, "scale bias hi"), *_fields(c_float, "per_step zero"), *_fields(c_int32, "activation lo"),
        *_fields(c_float, "floor ceiling"),
    ]  # fmt: skip


class ViewStruct(Structure):
    _fields_: ClassVar = [
        ("data", c_void_p), *_fields(c_int64, "image row pixel"), *_fields(c_int32, "images rows columns channels"),
    ]  # fmt: skip


class Product(Structure):
    _fields_: ClassVar = [
        *_fields(ViewStruct, "x y residual"), ("residual_gain", c_float), *_fields(c_void_p, "weight start taps"),
        *_fields(c_int32, "tap_count steps groups x_group blocks vectors real"), ("to", Rounding),
    ]  # fmt: skip


class Depthwise(Structure):
    _fields_: ClassVar = [
        *_fields(ViewStruct, "x y"), *_fields(c_void_p, "weight start"), *_fields(c_int64, "row column"),
        *_fields(c_int32, "height width real"), ("to", Rounding),
    ]  # fmt: skip


class QuantizeStruct(Structure):
    _fields_: ClassVar = [
        ("x", c_void_p), *_fields(c_int64, "image channel row column"), ("y", ViewStruct),
        *_fields(c_float, "per_step zero"), ("hi", c_int32),
    ]  # fmt: skip


class DequantizeStruct(Structure):
    _fields_: ClassVar = [*_fields(ViewStruct, "x y"), *_fields(c_float, "scale zero")]


class Scaling(Structure):
    _fields_: ClassVar = [
        *_fields(ViewStruct, "x factor y"), *_fields(c_float, "gain x_zero factor_zero zero"), ("hi", c_int32),
    ]  # fmt: skip


class Addition(Structure):
    _fields_: ClassVar = [
        *_fields(ViewStruct, "a b y"), *_fields(c_float, "a_gain b_gain zero"), ("hi", c_int32),
    ]  # fmt: skip


class Mean(Structure):
    _fields_: ClassVar = [
        *_fields(ViewStruct, "x y"), *_fields(c_float, "gain zero"), *_fields(c_int32, "real hi"),
    ]  # fmt: skip


class Windows(Structure):
    _fields_: ClassVar = _fields(c_int32, "height width stride_rows stride_columns pad_rows pad_columns")


class Maximum(Structure):
    _fields_: ClassVar = [*_fields(ViewStruct, "x y"), ("of", Windows)]


class Average(Structure):
    _fields_: ClassVar = [
        *_fields(ViewStruct, "x y"), ("of", Windows), *_fields(c_float, "gain x_zero zero"),
        *_fields(c_int32, "divisor real hi"),
    ]  # fmt: skip


class Copy(Structure):
    _fields_: ClassVar = [*_fields(ViewStruct, "x y"), ("table", c_void_p)]


class Interleave(Structure):
    _fields_: ClassVar = [*_fields(ViewStruct, "a b y"), *_fields(c_void_p, "a_table b_table")]


class Border(Structure):
    _fields_: ClassVar = [("y", ViewStruct), *_fields(c_int32, "rows columns value")]


class FloatProduct(Structure):
    _fields_: ClassVar = [
        *_fields(ViewStruct, "x y residual"), *_fields(c_void_p, "weight bias taps"),
        *_fields(c_int32, "tap_count steps groups x_group blocks vectors activation"), *_fields(c_float, "lo hi"),
    ]  # fmt: skip


class FloatDepthwise(Structure):
    _fields_: ClassVar = [
        *_fields(ViewStruct, "x y"), *_fields(c_void_p, "weight bias taps"),
        *_fields(c_int32, "tap_count activation"), *_fields(c_float, "lo hi"),
    ]  # fmt: skip


class FloatInput(Structure):
    _fields_: ClassVar = [("x", c_void_p), *_fields(c_int64, "image channel row column"), ("y", ViewStruct)]


class FloatScaling(Structure):
    _fields_: ClassVar = _fields(ViewStruct, "x factor y")


class FloatAddition(Structure):
    _fields_: ClassVar = [*_fields(ViewStruct, "a b y"), *_fields(c_float, "lo hi")]


class FloatPool(Structure):
    _fields_: ClassVar = [*_fields(ViewStruct, "x y"), ("of", Windows), *_fields(c_int32, "maximum divisor")]


class FloatCopy(Structure):
    _fields_: ClassVar = [*_fields(ViewStruct, "x y"), ("activation", c_int32), *_fields(c_float, "lo hi")]


class FloatInterleave(Structure):
    _fields_: ClassVar = _fields(ViewStruct, "a b y")


class FloatNorm(Structure):
    _fields_: ClassVar = [*_fields(ViewStruct, "x y"), *_fields(c_void_p, "weight bias"), ("eps", c_float)]


class StepStruct(Structure):
    _fields_: ClassVar = [("kind", c_int32), ("what", c_void_p)]
