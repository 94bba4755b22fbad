"""The op table: how each operation is fused, observed and run in int8. Adding an op means adding a row.

An operation that matches no row stays in fp32 and is listed with the reason.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from pytest_ptq.engine import modules as q
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.blocks import ConvBlock, LinearBlock
from pytest_ptq.engine.graph import call_nodes


class Kind(enum.Enum):
    WEIGHTED = "has weights: quantizes what it reads, and gives its output a range of its own"
    ELEMENTWISE = "int8 when all it reads is int8; its output has a range of its own"
    SHARES = "works on stored integers; its output keeps the scale and zero point of its input"
    IDENTITY = "does nothing in eval mode: removed"
    FUSES_ONLY = "runs in int8 only inside the layer before it"


Lower = Callable[["Call", Sequence[QParams], QParams | None], nn.Module]
"""lower(call, scale and zero point of each tensor read, those of the output or None for fp32) -> int8 layer."""


@dataclass(frozen=True)
class Call:
    """One use of an op: the layer it calls, if any, and its arguments that are not tensors of the graph."""

    layer: nn.Module | None
    arguments: dict[str, Any] = field(default_factory=dict)
    reads: int = 1
    per_channel: bool = True


@dataclass(frozen=True)
class Op:
    """A row of the table.

    Args:
        name: canonical name.
        kind: what quantization does with it.
        modules, functions, methods: how it can stand in a model.
        parameters: names of the arguments behind the tensors, for functions and methods.
        when: says why a use cannot be int8 (empty: it can).
        lower: makes the int8 layer.
        activation: the name under which a layer before it can take it in.
        elsewhere: qualified names of further modules and functions, from packages that take long to import and need
            not be there: whoever uses one has imported it.
    """

    name: str
    kind: Kind
    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()
    methods: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    when: Callable[[Call], str] = lambda call: ""
    lower: Lower | None = None
    activation: str | None = None
    elsewhere: tuple[str, ...] = ()


def _global_average(call: Call) -> str:
    size = call.layer.output_size if call.layer is not None else call.arguments.get("output_size")
    return "" if size in (1, (1, 1), [1, 1]) else f"int8 adaptive pooling is built for an output of 1 x 1, not {size}"


def _spatial_mean(call: Call) -> str:
    dims = call.arguments.get("dim")
    spatial = sorted(dims) in ([2, 3], [-2, -1]) if isinstance(dims, (list, tuple)) else False
    return "" if spatial else f"int8 mean is built for height and width (dims 2 and 3), not {dims}"


def _two_tensors(call: Call) -> str:
    if call.reads != 2:
        return "one operand is a constant"
    return "" if call.arguments.get("alpha", 1) == 1 else "alpha other than 1"


def _no_indices(call: Call) -> str:
    returns = getattr(call.layer, "return_indices", False) or call.arguments.get("return_indices", False)
    return "pooling that returns indices" if returns else ""


def _always_drops(call: Call) -> str:
    """F.dropout(x) without training=self.training: fp32 drops values in eval mode too, and int8 has to agree."""
    drops = call.layer is None and call.arguments.get("training", True)
    return "drops values also in eval mode" if drops else ""


def _lower_mean(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    # Adaptive pooling, as a layer or with an output size, keeps the two dimensions; mean drops them unless told not to.
    keepdim = call.layer is not None or "output_size" in call.arguments or bool(call.arguments.get("keepdim"))
    return q.QuantizedMean(reads[0], out, keepdim)


def _lower_max_pool(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    usual = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
    given = {n: getattr(call.layer, n) for n in names} if call.layer is not None else {**usual, **call.arguments}
    return q.QuantizedMaxPool2d(**{n: given[n] for n in names})


_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")

OPS: tuple[Op, ...] = (
    Op("conv2d", Kind.WEIGHTED, (ConvBlock,), lower=lambda c, r, o: q.quantized_conv(c.layer, r, o, c.per_channel)),
    Op("linear", Kind.WEIGHTED, (LinearBlock,), lower=lambda c, r, o: q.quantized_linear(c.layer, r, o, c.per_channel)),
    Op(
        "add", Kind.ELEMENTWISE, functions=(operator.add, operator.iadd, torch.add), methods=("add", "add_"),
        parameters=("alpha",), when=_two_tensors, lower=lambda c, r, o: q.QuantizedAdd(r[0], r[1], o),
    ),
    Op(
        "mul", Kind.ELEMENTWISE, functions=(operator.mul, operator.imul, torch.mul), methods=("mul", "mul_"),
        when=_two_tensors, lower=lambda c, r, o: q.QuantizedMul(r[0], r[1], o),
    ),
    Op(
        "adaptive_avg_pool2d", Kind.ELEMENTWISE, (nn.AdaptiveAvgPool2d,), (F.adaptive_avg_pool2d,),
        parameters=("output_size",), when=_global_average, lower=_lower_mean,
    ),
    Op(
        "mean", Kind.ELEMENTWISE, functions=(torch.mean,), methods=("mean",), parameters=("dim", "keepdim"),
        when=_spatial_mean, lower=_lower_mean,
    ),
    Op(
        "max_pool2d", Kind.SHARES, (nn.MaxPool2d,), (F.max_pool2d, torch.max_pool2d), parameters=_POOL,
        when=_no_indices, lower=_lower_max_pool,
    ),
    Op(
        "relu", Kind.SHARES, (nn.ReLU,), (F.relu, torch.relu), ("relu", "relu_"), ("inplace",), activation="relu",
        lower=lambda c, r, o: q.QuantizedClamp(r[0], None),
    ),
    Op(
        "relu6", Kind.SHARES, (nn.ReLU6,), (F.relu6,), parameters=("inplace",), activation="relu6",
        lower=lambda c, r, o: q.QuantizedClamp(r[0], 6.0),
    ),
    Op("hardswish", Kind.FUSES_ONLY, (nn.Hardswish,), (F.hardswish,), activation="hardswish"),
    Op("hardsigmoid", Kind.FUSES_ONLY, (nn.Hardsigmoid,), (F.hardsigmoid,), activation="hardsigmoid"),
    Op("flatten", Kind.SHARES, (nn.Flatten,), (torch.flatten,), ("flatten",)),
    Op("reshape", Kind.SHARES, functions=(torch.reshape,), methods=("reshape", "view")),
    Op("permute", Kind.SHARES, functions=(torch.permute,), methods=("permute",)),
    Op("transpose", Kind.SHARES, functions=(torch.transpose,), methods=("transpose",)),
    Op("contiguous", Kind.SHARES, methods=("contiguous",)),
    Op("squeeze", Kind.SHARES, functions=(torch.squeeze,), methods=("squeeze",)),
    Op("unsqueeze", Kind.SHARES, functions=(torch.unsqueeze,), methods=("unsqueeze",)),
    Op(
        "dropout", Kind.IDENTITY, (nn.Dropout, nn.Dropout2d, nn.AlphaDropout),
        (F.dropout, F.dropout2d), parameters=("p", "training", "inplace"), when=_always_drops,
    ),
    Op(
        "stochastic_depth", Kind.IDENTITY, parameters=("p", "mode", "training"), when=_always_drops,
        elsewhere=("torchvision.ops.stochastic_depth.StochasticDepth",
                   "torchvision.ops.stochastic_depth.stochastic_depth"),
    ),
    Op("identity", Kind.IDENTITY, (nn.Identity,)),
)  # fmt: skip

_BY_MODULE = {module: op for op in OPS for module in op.modules}
_BY_FUNCTION = {function: op for op in OPS for function in op.functions}
_BY_METHOD = {method: op for op in OPS for method in op.methods}
_BY_NAME = {name: op for op in OPS for name in op.elsewhere}


def find_op(module: fx.GraphModule, node: fx.Node) -> Op | None:
    """The row that a node matches, or None."""
    if node.op == "call_module":
        kind = type(module.get_submodule(str(node.target)))
        return _BY_MODULE.get(kind) or _named(kind)
    if node.op == "call_function":
        return _BY_FUNCTION.get(node.target) or _named(node.target)  # type: ignore[arg-type]
    if node.op == "call_method":
        return _BY_METHOD.get(str(node.target))
    return None


def _named(what: object) -> Op | None:
    return _BY_NAME.get(f"{getattr(what, '__module__', '')}.{getattr(what, '__qualname__', '')}")


def is_identity(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node returns what it reads."""
    op = find_op(module, node)
    return op is not None and op.kind is Kind.IDENTITY and not op.when(describe_call(module, node, op))


def describe_call(module: fx.GraphModule, node: fx.Node, op: Op, per_channel: bool = True) -> Call:
    """What `when` and `lower` need to know of a node."""
    layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    constants = [a for a in node.args if not isinstance(a, fx.Node)]
    named = {k: v for k, v in node.kwargs.items() if not isinstance(v, fx.Node)}
    return Call(
        layer, {**dict(zip(op.parameters, constants, strict=False)), **named}, len(tensor_inputs(node)), per_channel
    )


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """The tensors a node reads, in the order of its arguments and with repetitions (x + x reads x twice)."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), lambda n: found.append(n))
    return [n for n in found if not holds_numbers(n)]


def tensor_nodes(module: fx.GraphModule) -> Iterator[fx.Node]:
    """Nodes that compute a tensor, in order."""
    return (node for node in call_nodes(module) if not holds_numbers(node))


_ASKS_FOR_NUMBERS = ("size", "dim", "numel", "ndimension")


def holds_numbers(node: fx.Node) -> bool:
    """True for sizes and what is computed from sizes alone: the same whether the tensor holds int8 or fp32."""
    if node.op == "call_method":
        return node.target in _ASKS_FOR_NUMBERS
    # Arithmetic, comparisons and getitem, and what is asserted of them; not torch.zeros(n), which makes a tensor.
    plain = getattr(node.target, "__module__", "") == "_operator" or node.target is torch._assert
    return plain and bool(node.all_input_nodes) and all(map(holds_numbers, node.all_input_nodes))
