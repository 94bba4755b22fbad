"""What rows of the op table refer to: which uses of an operation can be int8, and how their int8 layers are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from pytest_ptq.engine import modules as q
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.op import Call, Lower


def because(reason: str) -> Callable[[Call], str]:
    """Never int8, for one reason."""
    return lambda call: reason


def one_tensor(call: Call) -> str:
    return "" if call.reads == 1 else "reads more than one tensor"


def pointwise(call: Call) -> str:
    """A function of each number by itself becomes a table; its constants have to be known."""
    return "an argument is computed from sizes" if call.computed else one_tensor(call)


def arithmetic(call: Call) -> str:
    """Of two tensors, or of one and a constant."""
    if call.reads == 1:
        return pointwise(call)
    return "" if call.arguments.get("alpha", 1) == 1 else "alpha other than 1"


def known_parts(call: Call) -> str:
    """torch.cat of a list; the tuple that a chunk returns, handed on whole, is one node."""
    if not isinstance(call.arguments.get("tensors"), (list, tuple)):
        return "it reads a sequence that the graph makes"
    return "its dimension is computed from sizes" if call.computed else ""


def with_a_constant(call: Call) -> str:
    return pointwise(call) if call.reads == 1 else "of two tensors"


def two_tensors(call: Call) -> str:
    return "" if call.reads == 2 and not call.arguments else "not of two tensors"


def window(call: Call) -> str:
    if call.computed:
        return "its size is computed from sizes"
    return "pooling that returns indices" if call.given("return_indices", False) else ""


def known_mean(call: Call) -> str:
    dims = call.arguments.get("dim")
    listed = dims if isinstance(dims, (list, tuple)) else (dims,)
    known = bool(listed) and all(isinstance(d, int) for d in listed)
    return "" if known else "int8 mean is built for dimensions that are given as numbers"


def zero_padding(call: Call) -> str:
    if call.computed:
        return "its width is computed from sizes"
    if isinstance(call.layer, nn.Module):
        return "" if getattr(call.layer, "value", 0.0) == 0 else "pads with other than zero"
    if call.arguments.get("mode", "constant") != "constant":
        return f"pads by {call.arguments['mode']}, which torch does not do for uint8"
    return "" if not call.arguments.get("value") else "pads with other than zero"


def nearest(call: Call) -> str:
    mode = call.given("mode", "nearest")
    return "" if mode in ("nearest", "nearest-exact") else f"{mode} interpolation computes between values"


def plain_convolution(call: Call) -> str:
    mode = getattr(call.layer, "padding_mode", "zeros")
    return f"padding mode {mode}" if mode != "zeros" else "its padding differs between the sides"


def plain_transposed(call: Call) -> str:
    if call.layer is None:
        return "a function whose weights are not the model's own"
    if set(call.layer.dilation) != {1}:  # type: ignore[arg-type]
        return "a dilated transposed convolution is no convolution of its input"
    return "its size is given at the call"


def always_drops(call: Call) -> str:
    """F.dropout(x) without training=self.training: fp32 drops values in eval mode too, and int8 has to agree."""
    drops = call.layer is None and call.arguments.get("training", True)
    return "drops values also in eval mode" if drops else ""


def clamp_activation(call: Call) -> str | None:
    """A clamp that is a ReLU or a ReLU6 under another name."""
    low = call.given("min_val", call.given("min"))
    high = call.given("max_val", call.given("max"))
    if call.computed or low != 0:
        return None
    return "relu6" if high == 6 else "relu" if high is None else None


def gelu_activation(call: Call) -> str | None:
    return "gelu_tanh" if call.given("approximate", "none") == "tanh" else "gelu"


def leaky_activation(call: Call) -> str | None:
    return "leaky_relu" if call.given("negative_slope", 0.01) == 0.01 else None


def lower_lookup(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    return q.lookup(call.apply, reads[0], out)


def lower_prelu(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    assert isinstance(call.layer, nn.PReLU)
    channels = call.layer.weight.numel()
    return lower_lookup(call, reads, out) if channels == 1 else q.channel_lookup(call.layer, channels, reads[0], out)


def lower_add(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    return q.QuantizedAdd(reads[0], reads[1], out) if len(reads) == 2 else lower_lookup(call, reads, out)


def lower_sub(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    return q.QuantizedSub(reads[0], reads[1], out) if len(reads) == 2 else lower_lookup(call, reads, out)


def lower_mul(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    return q.QuantizedMul(reads[0], reads[1], out) if len(reads) == 2 else lower_lookup(call, reads, out)


def lower_cat(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    return q.QuantizedCat(reads, out, call.arguments.get("dim", 0))


def lower_stack(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    return q.QuantizedStack(reads, out, call.arguments.get("dim", 0))


def lower_pad(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    pad = call.layer.padding if call.layer is not None else call.arguments["pad"]
    return q.QuantizedPad(reads[0], pad)  # type: ignore[arg-type]


def lower_mean(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
    dims = call.arguments["dim"]
    return q.QuantizedMean(
        reads[0], out, bool(call.arguments.get("keepdim")), dims if isinstance(dims, (list, tuple)) else (dims,)
    )


def adaptive_avg_pool(kind: type[q.QuantizedAdaptiveAvgPool2d]) -> Lower:
    """To one value, it is a mean."""

    def lower(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
        size = call.given("output_size")
        if size == 1 or (isinstance(size, (list, tuple)) and set(size) == {1}):
            return q.QuantizedMean(reads[0], out, True, tuple(range(-kind.dims, 0)))
        return kind(reads[0], out, size)

    return lower


def adaptive_max_pool(kind: type[q.QuantizedAdaptiveMaxPool2d]) -> Lower:
    return lambda call, reads, out: kind(call.given("output_size"))


def avg_pool(kind: type[q.QuantizedAvgPool2d]) -> Lower:
    usual = {"stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True, "divisor_override": None}

    def lower(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
        rest = {name: call.given(name, value) for name, value in usual.items()}
        return kind(reads[0], out, call.given("kernel_size"), **rest)

    return lower


def max_pool(kind: type[q.QuantizedMaxPool2d]) -> Lower:
    usual = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}

    def lower(call: Call, reads: Sequence[QParams], out: QParams | None) -> nn.Module:
        return kind(call.given("kernel_size"), **{name: call.given(name, value) for name, value in usual.items()})

    return lower
