"""What a graph does to shapes: most of it is a way to look at memory, and no step at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from pytest_ptq.engine.deployment.walk import Concatenated, Flat, Halves, NotNativeError, Walk
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.op import Call


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
    walk.add(walk.vocabulary.in_turn(a, a_table, b, b_table, y))
    return y


def _transpose(walk: Walk, call: Call, node: fx.Node) -> Halves:
    value = walk.values[node.args[0]]
    if not isinstance(value, Halves) or {node.args[1], node.args[2]} != {1, 2}:
        raise NotNativeError("transpose")
    return Halves(value.value, not value.swapped)


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
    "reshape": _reshape,
    "squeeze": _reshape,
    "transpose": _transpose,
}
"""By the name of their row in the op table."""
