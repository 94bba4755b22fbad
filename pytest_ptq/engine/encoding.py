"""Graphs and layers as JSON and tensors, and back. Reading runs no code from the file.

A graph may name only layers of this package, layers of `torch.nn`, and the functions and methods of the lists here.
"""

from __future__ import annotations

import inspect
import keyword
import operator
import re
from collections.abc import Callable, Container
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pytest_ptq.engine import blocks, modules
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.freeze import ToChannelsLast
from pytest_ptq.engine.table import OPS
from pytest_ptq.engine.transposed import Interleave
from pytest_ptq.errors import StoreError

_OWN = {
    c.__name__: c
    for c in (
        blocks.ConvBlock, blocks.Conv1dBlock, blocks.Conv3dBlock, blocks.NormBlock, blocks.LinearBlock, ToChannelsLast,
        blocks.FlatNormBlock, Interleave, *modules.STORED,
    )
}  # fmt: skip
_TENSOR_FUNCTIONS: dict[str, tuple[object, str]] = {
    "operator": (operator, "getitem sub truediv floordiv mod neg matmul pow eq ne lt le gt ge"),
    "torch": (
        torch,
        "_assert cat chunk split stack matmul bmm sigmoid tanh clamp erf exp log sqrt rsqrt pow abs sin cos maximum "
        "minimum where sum amax amin var std addmm baddbmm einsum softmax log_softmax square reciprocal cumsum topk "
        "meshgrid arange zeros ones full logical_not",
    ),
    "F": (
        F,
        "avg_pool2d interpolate pad softmax gelu silu sigmoid layer_norm leaky_relu hardtanh elu batch_norm conv2d "
        "linear scaled_dot_product_attention normalize group_norm instance_norm rms_norm max_pool1d avg_pool1d "
        "avg_pool3d max_pool3d adaptive_avg_pool1d adaptive_avg_pool3d adaptive_max_pool2d lp_pool2d conv1d conv3d "
        "conv_transpose2d unfold fold one_hot embedding logsigmoid glu softplus",
    ),
}
"""What a stored graph may call beside the functions of the op table."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"{f.__module__}.{f.__name__}": f for op in OPS for f in op.functions},
    **{f"{home}.{n}": getattr(module, n) for home, (module, names) in _TENSOR_FUNCTIONS.items() for n in names.split()},
}
NAME_OF = {f: name for name, f in FUNCTIONS.items()}
METHODS = {m for op in OPS for m in op.methods} | {
    "size", "dim", "chunk", "split", "sum", "sub", "div", "expand", "repeat", "softmax", "sigmoid", "tanh", "clamp",
    "clamp_", "matmul", "bmm", "float", "t", "pow", "sqrt", "unflatten", "roll", "select", "narrow", "masked_fill",
    "numel", "ndimension", "exp", "log", "abs", "erf", "rsqrt", "square", "amax", "amin", "var", "std", "norm",
    "new_zeros", "new_ones", "type_as", "to", "double", "expand_as", "log_softmax", "cumsum", "masked_select", "max",
    "min", "argmax",
}  # fmt: skip
_DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float32, torch.float64, torch.uint8, torch.int64)}


def encode_layer(path: str, layer: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A layer of this package by its constructor's arguments; one of torch.nn by its plain attributes and tensors."""
    kind = type(layer).__name__
    if _OWN.get(kind) is type(layer):
        names = [n for n in inspect.signature(type(layer).__init__).parameters if n != "self"]
        return {"own": kind, "arguments": {n: encode(getattr(layer, n), f"{path}.{n}", tensors) for n in names}}
    if _torch_layer(kind) is not type(layer):
        raise StoreError(f"a {kind} cannot be stored", place=path, remedy="Only layers of torch.nn can be.")
    every_module_has = vars(nn.Module())
    plain = {k: v for k, v in vars(layer).items() if k not in every_module_has}
    return {
        "nn": kind,
        "attributes": {k: encode(v, f"{path}.{k}", tensors) for k, v in plain.items()},
        "tensors": {k: encode(v, f"{path}.{k}", tensors) for k, v in _own_tensors(layer).items()},
        "children": {k: encode_layer(f"{path}.{k}", child, tensors) for k, child in layer.named_children()},
    }


def _torch_layer(name: str) -> type[nn.Module] | None:
    """The layer of torch.nn with that name; attention holds one that is not among the public ones."""
    kind = getattr(nn, name, None) or getattr(nn.modules.linear, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, nn.Module) else None


def _own_tensors(layer: nn.Module) -> dict[str, Tensor | None]:
    return {**layer._parameters, **layer._buffers}


def encode(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[key] = value.detach()
        return {"tensor": key}
    if isinstance(value, QParams):
        return {"qparams": [value.scale, value.zero_point, value.quant_min, value.quant_max]}
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [encode(v, f"{key}.{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": [[k, encode(v, f"{key}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, slice):
        return {"slice": [encode(v, key, tensors) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if callable(value) and not isinstance(value, type) and value in NAME_OF:
        return {"function": NAME_OF[value]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise StoreError(f"a {type(value).__name__} cannot be stored", place=key)


def decode(value: Any, tensors: dict[str, Tensor], nodes: dict[str, fx.Node]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    readers: dict[str, Callable[[Any], Any]] = {
        "tensor": lambda c: tensors[c],
        "qparams": lambda c: QParams(*c),
        "tuple": lambda c: tuple(decode(v, tensors, nodes) for v in c),
        "list": lambda c: [decode(v, tensors, nodes) for v in c],
        "dict": lambda c: {str(k): decode(v, tensors, nodes) for k, v in c},
        "slice": lambda c: slice(*(decode(v, tensors, nodes) for v in c)),
        "node": lambda c: nodes[c],
        "dtype": lambda c: _DTYPES[c],
        "function": lambda c: FUNCTIONS[c],
    }
    return readers[kind](content)


def encode_node(node: fx.Node) -> dict[str, Any]:
    target = node.target
    if node.op == "call_function":
        if target not in NAME_OF:
            raise StoreError(f"the function {target} cannot be stored", place=node.meta.get("layer", node.name))
        target = NAME_OF[target]
    elif node.op == "call_method" and target not in METHODS:
        raise StoreError(f"the method {target} cannot be stored", place=node.meta.get("layer", node.name))
    none: dict[str, Tensor] = {}
    return {
        "name": node.name, "op": node.op, "target": str(target), "layer": node.meta.get("layer", node.name),
        "args": [encode(a, node.name, none) for a in node.args],
        "kwargs": {k: encode(v, node.name, none) for k, v in node.kwargs.items()},
    }  # fmt: skip


_PATH = re.compile(r"[\w#\- ]+(\.[\w#\- ]+)*")


def check_node(item: dict[str, Any], layers: Container[str], constants: Container[str]) -> None:
    """Refuse what a graph may not name.

    torch.fx writes a graph as Python source, names and all, and runs that: every word that comes from the file has to
    be a plain name, or the file could bring code along.
    """
    target, op = item["target"], item["op"]
    allowed = {
        "placeholder": target.isidentifier() and not keyword.iskeyword(target),
        "call_function": target in FUNCTIONS,
        "call_method": target in METHODS,
        "call_module": target in layers and _PATH.fullmatch(target) is not None,
        "get_attr": target in constants and _PATH.fullmatch(target) is not None,
        "output": True,
    }
    if not allowed.get(op, False):
        raise StoreError(f"a stored graph may not name {op} {target!r}")
    if not item["name"].isidentifier() or not all(map(str.isidentifier, item["kwargs"])):
        raise StoreError(f"{item['name']!r} of a stored graph is not named by plain words")


def decode_layer(stored: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    if "own" in stored:
        return _OWN[stored["own"]](**{k: decode(v, tensors, {}) for k, v in stored["arguments"].items()})
    kind = _torch_layer(stored["nn"])
    if kind is None:
        raise StoreError(f"{stored['nn']} is no layer")
    layer: nn.Module = kind.__new__(kind)
    nn.Module.__init__(layer)
    for name, value in stored["attributes"].items():
        setattr(layer, name, decode(value, tensors, {}))
    for name, value in stored["tensors"].items():
        layer.register_buffer(name, decode(value, tensors, {}))
    for name, child in stored["children"].items():
        layer.add_module(name, decode_layer(child, tensors))
    return layer.eval()
