"""What a graph does to shapes: most of it is a way to look at memory, and no step at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from pytest_ptq.engine.deployment.walk import Concatenated, Flat, Halves, NotNativeError, Pixels, Walk
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.op import Call


def around_image(pad: Sequence[int], shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Pixels above, below, left and right, from what torch calls `pad`: both sides of the last dimension first."""
    left, right, above, below = (*pad, 0, 0)[:4]
    if len(shape) != 4 or len(pad) not in (2, 4) or min(pad) < 0:
        raise NotNativeError("padding of other than height and width")
    return above, below, left, right


def multiplied(walk: Walk, node: fx.Node, weight: Tensor) -> tuple[native.View, native.View, Tensor, Any]:
    """What a linear layer reads, memory for its result, its weight as a convolution's, and what stands for the result.

    Rows of numbers are images of one window, and a row for each pixel is a convolution of 1 x 1.
    """
    x, alike = walk.seen(node.args[0])
    if len(walk.shapes[node.args[0]]) == 2:
        y = walk.memory(node)
        return x, y, weight.reshape(-1, *x.shape[1:]), y
    if not isinstance(alike(x), Pixels):
        raise NotNativeError("a product of sequences")
    y = native.image((x.shape[0], len(weight), *x.shape[2:]), unit=walk.shapes[node].unit)
    return x, y, weight.reshape(*weight.shape, 1, 1), alike(y)


def divisor_of(windows: native.Windows, ceil_mode: bool, includes_padding: bool, override: int | None) -> int:
    """What the sums of average pooling are divided by; 0: by how many pixels of the image lie in each window."""
    if override:
        return override
    if not includes_padding or not any(windows.padding):
        return 0
    if ceil_mode:
        raise NotNativeError("averages over part of the padding")
    return windows.kernel[0] * windows.kernel[1]


def _reshape(walk: Walk, call: Call, node: fx.Node) -> Any:
    source = node.args[0]
    before, after, value = walk.shapes[source], walk.shapes[node], walk.values[source]
    if after == before:
        return value
    if len(before) == 4 and after == (before[0], 2, before[1] // 2, *before[2:]):
        return Halves(value if isinstance(value, Concatenated) else walk.view(source))
    if isinstance(value, Halves) and value.swapped and after == (before[0], 2 * before[1], *before[3:]):
        return _shuffled(walk, value.value, node)
    if len(before) == 4 and after == (before[0], before[1] * before[2] * before[3]):
        return walk.view(source) if before[2:] == (1, 1) else Flat(walk.view(source))
    raise NotNativeError(f"a view of {tuple(before)} as {tuple(after)}")


def _shuffled(walk: Walk, value: native.View | Concatenated, node: fx.Node) -> native.View:
    """Channels of two halves in turn."""
    y = walk.memory(node)
    half = y.channels // 2
    if isinstance(value, Concatenated) and [v.channels for v, _ in value.parts] == [half, half]:
        (a, a_table), (b, b_table) = value.parts
    else:
        whole = walk.laid_out(value, walk.shapes[node]) if isinstance(value, Concatenated) else value
        a, a_table, b, b_table = whole.part(0, half), None, whole.part(half, half), None
    in_turn = native.interleave(a, a_table, b, b_table, y) if y.buffer.unit == 1 else native.float_interleave(a, b, y)
    walk.add(in_turn)
    return y


def _transpose(walk: Walk, call: Call, node: fx.Node) -> Halves:
    value = walk.values[node.args[0]]
    if not isinstance(value, Halves) or {node.args[1], node.args[2]} != {1, 2}:
        raise NotNativeError("transpose")
    return Halves(value.value, not value.swapped)


def _permute(walk: Walk, call: Call, node: fx.Node) -> Any:
    """Channels to the end, where they lie, and back."""
    given = (node.kwargs["dims"],) if "dims" in node.kwargs else node.args[1:]
    dims: Any = given[0] if len(given) == 1 else given
    value, order = walk.values[node.args[0]], [d % 4 if isinstance(d, int) else d for d in dims]
    if order == [0, 2, 3, 1] and not isinstance(value, Pixels):
        return Pixels(walk.view(node.args[0]))
    if order == [0, 3, 1, 2] and isinstance(value, Pixels):
        return value.view
    raise NotNativeError(f"dimensions in the order of {tuple(dims)}")


def _same(walk: Walk, call: Call, node: fx.Node) -> Any:
    return walk.values[node.args[0]]


def _chunk(walk: Walk, call: Call, node: fx.Node) -> tuple[native.View, ...]:
    dim = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
    if dim != 1:
        raise NotNativeError("parts of anything but channels")
    whole, parts, at = walk.view(node.args[0]), [], 0
    for part in walk.shapes[node]:
        parts.append(whole.part(at, part.shape[1]))
        at += part.shape[1]
    return tuple(parts)


def _getitem(walk: Walk, call: Call, node: fx.Node) -> Any:
    value, which = walk.values[node.args[0]], node.args[1]
    if not isinstance(value, tuple) or not isinstance(which, int):
        raise NotNativeError("slices")
    return value[which]


def _channel_shuffle(walk: Walk, call: Call, node: fx.Node) -> native.View:
    groups = call.layer.groups if call.layer is not None else node.args[1]
    value = walk.values[node.args[0]]
    if groups != 2 or len(walk.shapes[node]) != 4:
        raise NotNativeError("a shuffle of other than two groups")
    return _shuffled(walk, value if isinstance(value, Concatenated) else walk.view(node.args[0]), node)


SHAPES: Mapping[str, Callable[[Walk, Call, fx.Node], Any]] = {
    "channel_shuffle": _channel_shuffle,
    "chunk": _chunk,
    "contiguous": _same,
    "flatten": _reshape,
    "getitem": _getitem,
    "permute": _permute,
    "reshape": _reshape,
    "split": _chunk,
    "squeeze": _reshape,
    "transpose": _transpose,
}
"""By the name of their row in the op table."""
