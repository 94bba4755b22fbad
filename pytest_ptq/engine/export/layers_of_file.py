"""Which layer each node of an exported file belongs to: what a runtime calls its kernels by leads back to the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_ptq.engine.export.proto import import_onnx

SUFFIX = ".weight"
"""How a layer's weights are called: `features.0.weight`."""


def weighted_layers(path: Path) -> Mapping[str, str]:
    """The layer of everything in an exported file that multiplies with stored weights.

    Returns:
        Names of nodes, and of what they compute -> path of the layer, in the order of the file.
    """
    graph = import_onnx().load(str(path), load_external_data=False).graph
    sources = {output: node for node in graph.node for output in node.output}
    stored = {tensor.name for tensor in graph.initializer}
    found: dict[str, str] = {}
    for node in graph.node:
        layer = next(_layers_read(node, sources, stored), None) if node.op_type in PRODUCTS else None
        if layer is not None:
            found |= dict.fromkeys((node.name, *node.output), layer)
    return found


PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
STEPS = frozenset({"DequantizeLinear", "Identity", "Reshape", "Transpose"})
"""What may stand between a product and its stored weight."""


def _layers_read(node: Any, sources: Mapping[str, Any], stored: set[str]) -> Iterator[str]:
    """Layers whose weights a product reads."""
    for name in node.input:
        while name in sources and sources[name].op_type in STEPS:
            name = sources[name].input[0]
        if name in stored and name.endswith(SUFFIX):
            yield name.removesuffix(SUFFIX)
