"""Which node of a model's file a kernel came from: runtimes fuse nodes, and keep their names in parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_ptq.runtimes.interface import Kernel, KernelCounts

SEPARATORS = ("_", "/")
"""What stands between a node's name and what a runtime puts behind it: `conv_token_7`, `conv/WithoutBiases`."""


@dataclass(frozen=True)
class Verified:
    """Which of the layers that are quantized a runtime really computes in int8.

    Args:
        layers: those of them that it does not.
        missing: their multiply-accumulates.
    """

    layers: tuple[str, ...]
    missing: int


def verify(quantized: Mapping[str, int], nodes: Mapping[str, str], counts: KernelCounts) -> Verified:
    """Hold what should run in int8 against the kernels of a runtime's own graph.

    A layer is believed when a kernel that carries the name of its node is an int8 kernel. Of layers without a kernel of
    their name, as many are believed as there are int8 kernels without a layer, those with least to compute first: what
    is not known is not counted in favour of the runtime.

    Args:
        quantized: multiply-accumulates of each layer that is quantized, by path.
        nodes: layer of each node of the file that multiplies, and of what it computes, by name.
        counts: what the runtime runs.
    """
    by_layer: dict[str, list[bool]] = {}
    unnamed = 0
    for kernel in counts.weighted:
        layer = _layer_of(kernel, nodes)
        if layer in quantized:
            by_layer.setdefault(layer, []).append(kernel.int8)
        else:
            unnamed += kernel.int8
    left = [layer for layer, int8 in by_layer.items() if not all(int8)]
    unknown = sorted((layer for layer in quantized if layer not in by_layer), key=lambda layer: quantized[layer])
    left += unknown[unnamed:]
    ordered = tuple(layer for layer in quantized if layer in left)
    return Verified(ordered, sum(quantized[layer] for layer in ordered))


def _layer_of(kernel: Kernel, nodes: Mapping[str, str]) -> str:
    """The layer whose node's name, the longest that fits, stands in the kernel's; empty where none does."""
    fitting = [name for source in kernel.sources for name in _within(source, nodes)]
    return nodes[max(fitting, key=len)] if fitting else ""


def _within(source: str, names: Iterable[str]) -> list[str]:
    return [n for n in names if source == n or any(source.startswith(n + separator) for separator in SEPARATORS)]
