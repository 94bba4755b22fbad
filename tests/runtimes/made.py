"""Small ONNX files made node by node: a convolution and a product, in float or quantized, and some that are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (2, 3, 8, 8)
CONV, FC = "body.conv", "head.fc"


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32) / 4


def save(path: Path, nodes: list[Any], tensors: dict[str, Any], output: list[Any] | None = None) -> Path:
    """A model from `x` (n, 3, 8, 8) to `y`."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def float_model(path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name=CONV),
        helper.make_node("Relu", ["c"], ["a"], name="body.relu"),
        helper.make_node("GlobalAveragePool", ["a"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "v"], ["y"], name=FC, transB=1),
    ]
    return save(path, nodes, {"w": _random(8, 3, 3, 3), "v": _random(10, 8)}, ["n", 10])


class _Quantizer:
    """Adds pairs of QuantizeLinear and DequantizeLinear."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: dict[str, Any] = {}

    def pair(self, name: str, scale: float) -> str:
        """The name under which `name` comes back."""
        self.tensors |= {f"{name}_s": np.float32(scale), f"{name}_z": np.uint8(0)}
        steps = [f"{name}_s", f"{name}_z"]
        self.nodes += [
            helper.make_node("QuantizeLinear", [name, *steps], [f"{name}_q"], name=f"{name}/quantize"),
            helper.make_node("DequantizeLinear", [f"{name}_q", *steps], [f"{name}_d"], name=f"{name}/dequantize"),
        ]
        return f"{name}_d"

    def weight(self, name: str, values: np.ndarray) -> str:
        """Stored as int8 with one scale for each output channel."""
        scales = np.abs(values).reshape(len(values), -1).max(1) / 127
        steps = scales.reshape(-1, *[1] * (values.ndim - 1))
        self.tensors |= {
            f"{name}_q": np.rint(values / steps).astype(np.int8),
            f"{name}_s": scales.astype(np.float32),
            f"{name}_z": np.zeros(len(values), np.int8),
        }
        inputs = [f"{name}_q", f"{name}_s", f"{name}_z"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}/dequantize", axis=0))
        return name


def int8_model(path: Path, product: bool = True) -> Path:
    """The same, quantized; `product`: also the matrix product behind the pooling."""
    q = _Quantizer()
    conv = [q.pair("x", 1 / 255), q.weight("w", _random(8, 3, 3, 3))]
    q.nodes.append(helper.make_node("Conv", conv, ["c"], name=CONV))
    q.nodes.append(helper.make_node("Relu", ["c"], ["r"], name="body.relu"))
    q.nodes.append(helper.make_node("GlobalAveragePool", [q.pair("r", 0.01)], ["p"], name="pool"))
    q.nodes.append(helper.make_node("Flatten", [q.pair("p", 0.005)], ["f"], name="flat"))
    read = q.pair("f", 0.005) if product else "f"
    v = _random(10, 8)
    inputs = [read, q.weight("v", v)] if product else [read, "v"]
    q.tensors |= {} if product else {"v": v}
    q.nodes.append(helper.make_node("Gemm", inputs, ["z" if product else "y"], name=FC, transB=1))
    if product:
        # Signed: in the middle of the integers.
        q.tensors |= {"z_s": np.float32(0.01), "z_z": np.uint8(128)}
        q.nodes.append(helper.make_node("QuantizeLinear", ["z", "z_s", "z_z"], ["z_q"], name="z/quantize"))
        q.nodes.append(helper.make_node("DequantizeLinear", ["z_q", "z_s", "z_z"], ["y"], name="z/dequantize"))
    return save(path, q.nodes, q.tensors, ["n", 10])


def unknown_operation(path: Path) -> Path:
    """Neither runtime knows what `Frobnicate` is."""
    return save(path, [helper.make_node("Frobnicate", ["x"], ["y"], name="layer1.odd")], {})


def impossible_shape(path: Path) -> Path:
    """A reshape that is possible for no batch of fewer than 7 images."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name=CONV),
        helper.make_node("Reshape", ["c", "shape"], ["y"], name="head.reshape"),
    ]
    return save(path, nodes, {"w": _random(8, 3, 3, 3), "shape": np.array([7, -1], np.int64)})
