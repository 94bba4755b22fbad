"""A suite's int8 model -> where its time goes, layer by layer, beside what this machine's int8 arithmetic can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pytest_ptq.metrics import LayerTime, Profile
from pytest_ptq.qconfig import QConfig
from pytest_ptq.runner import SuiteRun

if TYPE_CHECKING:
    from torch import Tensor, nn

REPEATS = 50
LIMIT_REPEATS = 20


def profile(run: SuiteRun, qconfig: QConfig, repeats: int = REPEATS) -> Profile:
    """Time every layer of the suite's int8 model on random input of its latency shape.

    The arithmetic limit is measured: on an AMD Zen 5 core at about 4 GHz, VNNI multiplies 500 GMAC/s and large layers
    come to within a percent of that.

    Raises UsageError for fewer than one repeat, and what making the model raises.
    """
    from pytest_ptq.engine.inspect import count_macs
    from pytest_ptq.engine.inspect.walk import key_of
    from pytest_ptq.measure.layer_times import time_layers

    quantized, example = run.quantized(qconfig), _noise(run.suite.latency_shape)
    found = time_layers(quantized, example, threads=run.threads, repeats=repeats)
    counted = count_macs(run.fused, example)
    macs = {key_of(node): counted.get(node.name, 0) for node in run.fused.graph.nodes}
    nodes = {node.name: node for node in quantized.graph.nodes}
    layers = [
        LayerTime(
            str(nodes[t.name].target) if nodes[t.name].op == "call_module" else key_of(nodes[t.name]),
            " + ".join(t.kernels),
            t.shape,
            t.ms,
            macs.get(key_of(nodes[t.name]), 0),
        )
        for t in found.nodes
    ]
    limit, layer = arithmetic_limit(run.threads)
    return Profile(
        run.suite.name, qconfig.name, run.suite.latency_shape, run.threads, repeats, tuple(layers),
        found.whole_ms, found.walk_ms, limit, layer,
    )  # fmt: skip


def arithmetic_limit(threads: int, repeats: int = LIMIT_REPEATS) -> tuple[float, str]:
    """The most GMAC/s that any of a few large int8 layers reaches here, by its shortest time; and which layer."""
    from pytest_ptq import engine
    from pytest_ptq.engine.inspect import count_macs
    from pytest_ptq.measure.layer_times import time_layers

    reached: dict[str, float] = {}
    for name, (make, shape) in _large_layers().items():
        model, example = make(), _noise(shape)
        fused = engine.fuse(model)
        times = time_layers(engine.quantize(model, [example], "minmax"), example, threads=threads, repeats=repeats)
        macs = sum(count_macs(fused, example).values())
        reached[name] = macs / (1e6 * max(t.best_ms for t in times.nodes))
    best = max(reached, key=lambda name: reached[name])
    return reached[best], best


def _large_layers() -> Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    """About 1.2 GMAC each, with all their operands in a second-level cache or nearly so."""
    from torch import nn

    def images(channels: int, kernel: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, channels, kernel, padding=kernel // 2), nn.ReLU()).eval()

    return {
        "3x3 convolution of 256 channels, 28 x 28, batch 4": (lambda: images(256, 3), (4, 256, 28, 28)),
        "3x3 convolution of 128 channels, 56 x 56, batch 4": (lambda: images(128, 3), (4, 128, 56, 56)),
        "1x1 convolution of 1024 channels, 14 x 14, batch 8": (lambda: images(1024, 1), (8, 1024, 14, 14)),
        "linear layer of 1024 features, 1024 rows": (
            lambda: nn.Sequential(nn.Linear(1024, 1024), nn.ReLU()).eval(),
            (1024, 1024),
        ),
    }


def _noise(shape: tuple[int, ...]) -> Tensor:
    import torch

    return torch.rand(shape, generator=torch.Generator().manual_seed(0))
