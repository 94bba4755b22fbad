"""What the exporter wrote, made ready for runtimes: constants as initializers, and what the file says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_ptq.engine.export.fine import with_fine_pairs
from pytest_ptq.errors import InstallationError

PRODUCER = "pytest-ptq"
STAGE, WEIGHT = "stage.", ".weight"
"""What the exporter puts before the path of what is stored, and how a layer's weight is called."""


def import_onnx() -> Any:
    """The onnx package. Raises InstallationError: one sentence with what to install."""
    try:
        import onnx
        import onnx.checker
        import onnx.version_converter
    except ImportError as error:
        raise InstallationError(
            "the onnx package is not installed, which writes models for other runtimes",
            remedy="Install it: pip install 'pytest-ptq[onnxruntime]'.",
        ) from error
    return onnx


def finished(content: bytes, metadata: Mapping[str, str], version: str, extra: Sequence[str]) -> bytes:
    """The file's bytes: the exporter's graph, checked.

    Args:
        content: what the exporter wrote.
        metadata: what the file says of itself beside its operator set.
        version: of this package.
        extra: outputs that are read beside the answers; what computes them must not stand between int8 kernels.
    """
    onnx = import_onnx()
    model = onnx.load_model_from_string(content)
    model = with_fine_pairs(onnx, model)
    graph = model.graph
    constants_to_initializers(onnx, graph)
    _name_after_layers(graph)
    for name in extra:  # the exporter takes no name of digits alone, which layers of a Sequential have
        _set_apart(onnx, graph, f"{STAGE}{name}")
    _rename(graph, {f"{STAGE}{name}": name for name in extra})
    graph.name = PRODUCER
    model.producer_name, model.producer_version = PRODUCER, version
    model.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del graph.value_info[:]
    del model.metadata_props[:]
    (opset,) = model.opset_import
    onnx.helper.set_model_props(model, {"opset": str(opset.version), **metadata})
    onnx.checker.check_model(model, full_check=True)
    found: bytes = model.SerializeToString(deterministic=True)
    return found


def constants_to_initializers(onnx: Any, graph: Any) -> None:
    """Constant nodes become initializers, equal ones become one."""
    kept: list[Any] = []
    same: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    for node in graph.node:
        tensor = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if tensor is None:
            kept.append(node)
            continue
        tensor.name = ""
        key = tensor.SerializeToString(deterministic=True)
        if key not in same:
            same[key] = node.output[0]
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        renamed[node.output[0]] = same[key]
    outputs = {o.name for o in graph.output}
    for node in kept:
        for i, name in enumerate(node.input):
            if name in renamed:
                node.input[i] = renamed[name]
    lost = [name for name in sorted(outputs & set(renamed)) if renamed[name] != name]
    kept.extend(onnx.helper.make_node("Identity", [renamed[name]], [name]) for name in lost)
    del graph.node[:]
    graph.node.extend(kept)


def _name_after_layers(graph: Any) -> None:
    """Call what is stored by its path in the model, and what multiplies with a weight by its layer."""
    found = {t.name: t.name.removeprefix(STAGE) for t in graph.initializer if t.name.startswith(STAGE)}
    for tensor in graph.initializer:
        tensor.name = found.get(tensor.name, tensor.name)
    layers: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = found.get(name, name)
        weights = [n for n in node.input if n in found.values() and n.endswith(WEIGHT)]
        layer = weights[0].removesuffix(WEIGHT) if weights else next((layers[n] for n in node.input if n in layers), "")
        if weights and node.op_type == "DequantizeLinear":
            layers[node.output[0]] = layer
        elif layer:
            taken[layer] += 1
            node.name = layer if taken[layer] == 1 else f"{layer}#{taken[layer]}"


def _rename(graph: Any, new: Mapping[str, str]) -> None:
    """Give computed values other names."""
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = new.get(name, name)
    for output in graph.output:
        output.name = new.get(output.name, output.name)


def _set_apart(onnx: Any, graph: Any, name: str) -> None:
    """Let an output that others read too be computed by a node of its own: a copy of the one that computes it."""
    position, node = next((i, n) for i, n in enumerate(graph.node) if name in n.output)
    readers = [n for n in graph.node if name in n.input]
    if not readers or node.op_type != "DequantizeLinear":
        return
    own = f"{name}:dequantized"
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = f"{node.name}:output"
    node.output[0] = own
    for reader in readers:
        for i, given in enumerate(reader.input):
            if given == name:
                reader.input[i] = own
    graph.node.insert(position + 1, copy)
