"""Save and load of an int8 model, or of a fused fp32 one: a safetensors file, its graph as JSON in the header.

Loading runs no code from the file: what a graph may name is listed in `encoding`.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, fx, nn

from pytest_ptq.engine import kernels
from pytest_ptq.engine.convert import QuantizedModule, mark_overwrites
from pytest_ptq.engine.encoding import (
    FUNCTIONS,
    check_node,
    decode,
    decode_layer,
    encode,
    encode_layer,
    encode_node,
)
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import StageModule, finish
from pytest_ptq.engine.safe_bytes import can_hold, safe_parts, safe_size
from pytest_ptq.errors import StoreError

SCHEMA = 1
FORMAT = "pytest-ptq int8 model"
STAGES: Mapping[str, type[StageModule]] = {kind.stage: kind for kind in (QuantizedModule, FusedModule)}
"""What can be stored. Of files without a stage, written by 0.1.0, all are converted."""


def save(model: StageModule, path: str | os.PathLike[str]) -> Path:
    """Write an int8 or a fused model, atomically. Raises StoreError when it cannot be stored or written."""
    target = Path(path)
    parts = to_parts(model)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                file.writelines(parts)
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"cannot write the model: {error.strerror}", place=str(target)) from error
    return target


def to_bytes(model: StageModule) -> bytes:
    """The file's content. Raises StoreError as `to_parts` does."""
    return b"".join(to_parts(model))


def to_parts(model: StageModule) -> Iterable[bytes | memoryview]:
    """The file's content, part by part, for whoever writes or hashes it: the weights are not copied.

    Raises StoreError at once when the model cannot be stored.
    """
    if not isinstance(model, tuple(STAGES.values())):
        raise StoreError(
            f"save was given a {type(model).__name__}", remedy="Give it what quantize, convert or fuse returned."
        )
    tensors: dict[str, Tensor] = {}
    layers = {
        str(node.target): encode_layer(str(node.target), model.get_submodule(str(node.target)), tensors)
        for node in model.graph.nodes
        if node.op == "call_module"
    }
    constants: dict[str, Any] = {}
    for node in model.graph.nodes:
        if node.op == "get_attr":
            constants[str(node.target)] = encode(_attribute(model, str(node.target)), str(node.target), tensors)
    graph: dict[str, Any] = {
        "nodes": [encode_node(node) for node in model.graph.nodes], "layers": layers, "constants": constants,
    }  # fmt: skip
    if isinstance(model, QuantizedModule):
        graph["environment"] = _environment(model)
    else:
        graph["stage"] = model.stage
    tensors = {k: v.contiguous() for k, v in tensors.items()}
    content = {"schema": SCHEMA, "sha256": _digest(graph, tensors), "graph": graph}
    # One entry: safetensors writes several in an order that differs from run to run.
    metadata = {FORMAT: json.dumps(content, separators=(",", ":"))}
    return safe_parts(tensors, metadata) if can_hold(tensors) else [safetensors.torch.save(tensors, metadata)]


def _digest(graph: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A checksum: int8 weights have no wrong values, so a damaged one would show only as lost accuracy."""
    found = hashlib.sha256(json.dumps(graph).encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        found.update(tensors[name].numpy().data)
    return found.hexdigest()


def load(path: str | os.PathLike[str]) -> fx.GraphModule:
    """Read a model that `save` wrote; its outputs are bit-identical on the same CPU and torch.

    Warns when an int8 model was made for another torch, engine or instruction set, or without reduce_range where one of
    its CPU and this one saturates in int16 and the other does not. Raises StoreError when the file is missing, damaged
    or not of this kind.
    """
    place = str(path)
    try:
        with safetensors.safe_open(place, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, safetensors.SafetensorError) as error:
        raise StoreError(f"not a readable model ({error})", place=place) from error
    try:
        content = json.loads(header.get(FORMAT, "{}"))
        if content.get("schema") != SCHEMA:
            raise StoreError(
                f"not an int8 model of schema {SCHEMA}", place=place, remedy="Save it again with this version."
            )
        stored = content["graph"]
        if content.get("sha256") != _digest(stored, tensors):
            raise StoreError("the content does not match its checksum", place=place, remedy="Copy or save it again.")
        model = _decode_graph(stored, tensors)
    except StoreError:
        raise
    except Exception as error:  # whatever a damaged file makes the decoder stumble over
        raise StoreError(f"the stored graph is damaged ({type(error).__name__}: {error})", place=place) from error
    if isinstance(model, QuantizedModule):
        model.made = stored["environment"]
        _compare_environment(stored["environment"], place)
    return model


def size_mb(model: nn.Module) -> float:
    """Serialized size in MB (10**6 bytes): an int8 model as `save` writes it, any other as safetensors of its state."""
    return serialized_bytes(model) / 1e6


def serialized_bytes(model: nn.Module) -> int:
    """Exact number of bytes of the serialized model: what the size gate measures."""
    if isinstance(model, QuantizedModule):
        return sum(len(part) for part in to_parts(model))
    state = model.state_dict()
    if can_hold(state):
        return safe_size(state)
    return len(safetensors.torch.save({k: v.detach().clone().contiguous() for k, v in state.items()}))


def _environment(model: QuantizedModule) -> dict[str, Any]:
    if model.made is not None:
        return dict(model.made)
    return {
        "torch": torch.__version__, "engine": kernels.ENGINE, "isa": torch.backends.cpu.get_cpu_capability(),
        "vnni": not kernels.saturates_int16(), "reduce_range": model.plan.reduce_range, "qconfig": model.qconfig.name,
    }  # fmt: skip


def _compare_environment(made: dict[str, Any], place: str) -> None:
    minor = ".".join(torch.__version__.split(".")[:2])
    if not str(made.get("torch", "")).startswith(f"{minor}."):
        warnings.warn(f"{place} was made with torch {made.get('torch')}, this is {torch.__version__}", stacklevel=3)
    here = {"engine": kernels.ENGINE, "isa": torch.backends.cpu.get_cpu_capability()}
    other = [f"{made[name]}, here is {value}" for name, value in here.items() if made.get(name, value) != value]
    if other:
        warnings.warn(f"{place} was made with {'; '.join(other)}: it may answer otherwise here", stacklevel=3)
    if made.get("reduce_range"):
        return  # no sum of two products leaves int16: with and without VNNI they are the same
    if kernels.saturates_int16():
        warnings.warn(
            f"{place} was made without reduce_range, and this CPU's kernels saturate in int16: quantize it again here",
            stacklevel=3,
        )
    elif made.get("vnni") is False:  # older files do not say
        warnings.warn(
            f"{place} was made without reduce_range by kernels that saturate in int16, and those here do not: "
            "it may answer otherwise here",
            stacklevel=3,
        )


def _attribute(model: nn.Module, target: str) -> Any:
    owner, _, name = target.rpartition(".")
    return getattr(model.get_submodule(owner), name)


def _decode_graph(stored: dict[str, Any], tensors: dict[str, Tensor]) -> StageModule:
    root: dict[str, Any] = {path: decode_layer(layer, tensors) for path, layer in stored["layers"].items()}
    constants = {path: decode(value, tensors, {}) for path, value in stored["constants"].items()}
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for item in stored["nodes"]:
        check_node(item, stored["layers"], constants)
        target = FUNCTIONS[item["target"]] if item["op"] == "call_function" else item["target"]
        args = tuple(decode(a, tensors, nodes) for a in item["args"])
        kwargs = {k: decode(v, tensors, nodes) for k, v in item["kwargs"].items()}
        node = graph.create_node(item["op"], target, args, kwargs, item["name"])
        node.meta["layer"] = item["layer"]
        nodes[item["name"]] = node
    model = STAGES[stored.get("stage", QuantizedModule.stage)](root | constants, graph)
    if isinstance(model, QuantizedModule):
        mark_overwrites(model)
    finish(model)
    return model
