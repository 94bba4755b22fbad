"""A suite's int8 model -> where its time goes, layer by layer, beside what this machine's int8 arithmetic can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pytest_ptq.metrics import LayerTime, Profile
from pytest_ptq.qconfig import QConfig
from pytest_ptq.runner import SuiteRun

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from pytest_ptq.engine.convert import QuantizedModule
    from pytest_ptq.engine.deployment import DeployedModule
    from pytest_ptq.measure.layer_times import GraphTimes, NodeTime

REPEATS = 50
LIMIT_REPEATS = 20
ROUNDS = 2**20
"""Of instructions on registers: a few milliseconds."""


def profile(run: SuiteRun, qconfig: QConfig, repeats: int = REPEATS) -> Profile:
    """Time every layer of the suite's int8 model on random input of its latency shape.

    That is done in the form that the latency gate times, where this is a program of compiled kernels, step by step;
    and else in the graph, called layer by layer from Python.

    The arithmetic limit is measured in the same run: a core of AMD Zen 5 at about 4 GHz multiplies 500 GMAC/s by VNNI,
    and half of that where the other thread of the core is at work for somebody else.

    Raises UsageError for fewer than one repeat, and what making the model raises.
    """
    from pytest_ptq.engine.deployment import called_as_deployed
    from pytest_ptq.engine.inspect import count_macs
    from pytest_ptq.engine.inspect.walk import key_of

    quantized, example = run.quantized(qconfig), _noise(run.suite.latency_shape)
    deployed = called_as_deployed(quantized, example)
    form = "program" if deployed.kernels == "native" else "graph"
    found = FORMS[form](quantized, deployed, example, run.threads, repeats)
    counted = count_macs(run.fused, example)
    macs = {key_of(node): counted.get(node.name, 0) for node in run.fused.graph.nodes}
    shown = {key_of(node): _shown(node) for node in quantized.graph.nodes}
    layers = (LayerTime(shown[t.name], _kernel(t, form), t.shape, t.ms, macs.get(t.name, 0)) for t in found.nodes)
    return Profile(
        run.suite.name, qconfig.name, run.suite.latency_shape, run.threads, repeats, tuple(layers),
        found.whole_ms, found.walk_ms, *arithmetic_limit(run.threads), form, deployed.not_native,
    )  # fmt: skip


def _kernel(layer: NodeTime, form: str) -> str:
    """A step of compiled kernels is told from an operator of torch's by a word in front."""
    return f"{'native ' if form == 'program' else ''}{' + '.join(layer.kernels)}"


def _shown(node: fx.Node) -> str:
    from pytest_ptq.engine.inspect.walk import key_of

    return str(node.target) if node.op == "call_module" else key_of(node)


def _time_graph(
    quantized: QuantizedModule, _: DeployedModule, example: Tensor, threads: int, repeats: int
) -> GraphTimes:
    return time_graph(quantized, example, threads, repeats)


def time_graph(quantized: QuantizedModule, example: Tensor, threads: int, repeats: int) -> GraphTimes:
    """The graph, called layer by layer; by the names that nodes have in both graphs."""
    from dataclasses import replace

    from pytest_ptq.engine.inspect.walk import key_of
    from pytest_ptq.measure.layer_times import time_layers

    found = time_layers(quantized, example, threads=threads, repeats=repeats)
    keys = {node.name: key_of(node) for node in quantized.graph.nodes}
    return replace(found, nodes=tuple(replace(t, name=keys[t.name]) for t in found.nodes))


def _time_steps(
    quantized: QuantizedModule, deployed: DeployedModule, example: Tensor, threads: int, repeats: int
) -> GraphTimes:
    """The program of compiled kernels, by the same names."""
    from pytest_ptq.engine.inspect.walk import key_of
    from pytest_ptq.measure.layer_times import output_shapes
    from pytest_ptq.measure.program_times import time_program

    found = output_shapes(quantized, example)
    shapes = {key_of(node): found.get(node.name, ()) for node in quantized.graph.nodes}
    program = deployed.program.program(example)
    return time_program(deployed, program, example, shapes=shapes, threads=threads, repeats=repeats)


FORMS: Mapping[str, Callable[[QuantizedModule, DeployedModule, Tensor, int, int], GraphTimes]] = {
    "program": _time_steps,
    "graph": _time_graph,
}
"""How each form of a model is timed."""


def arithmetic_limit(threads: int, repeats: int = LIMIT_REPEATS) -> tuple[float, str, str]:
    """The most GMAC/s that is reached here, by the shortest of several times; by what, and by which kernel.

    By VNNI instructions on registers alone; and where there are no compiled kernels, by the fastest of a few large
    int8 layers.
    """
    from pytest_ptq.engine.kernels import native

    return _of_large_layers(threads, repeats) if native.why_not() else _of_registers(threads, repeats)


def _of_registers(threads: int, repeats: int) -> tuple[float, str, str]:
    from time import perf_counter

    from pytest_ptq.engine.kernels import native

    rates = []
    for _ in range(repeats):
        start = perf_counter()
        macs = native.multiply(ROUNDS, threads)
        rates.append(macs / (perf_counter() - start) / 1e9)
    return max(rates), "VNNI instructions on registers alone", "native vpdpbusd"


def _of_large_layers(threads: int, repeats: int) -> tuple[float, str, str]:
    from pytest_ptq import engine
    from pytest_ptq.engine.inspect import count_macs
    from pytest_ptq.engine.inspect.walk import key_of

    reached: list[tuple[float, str, str]] = []
    for name, (make, shape) in _large_layers().items():
        model, example = make(), _noise(shape)
        fused, quantized = engine.fuse(model), engine.quantize(model, [example], "minmax")
        counted = count_macs(fused, example)
        macs = {key_of(node): counted.get(node.name, 0) for node in fused.graph.nodes}
        largest = max(macs, key=lambda key: macs[key])
        found = time_graph(quantized, example, threads, repeats)
        (layer,) = (t for t in found.nodes if t.name == largest)
        reached.append((macs[largest] / (1e6 * layer.best_ms), name, _kernel(layer, "graph")))
    return max(reached)


def _large_layers() -> Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    """1.1 to 1.8 GMAC each, with all their operands in a second-level cache or nearly so."""
    from torch import nn

    class Images(nn.Module):
        """A convolution, and a mean and a classifier behind it: it then writes integers, as inside of a model."""

        def __init__(self, channels: int, kernel: int) -> None:
            super().__init__()
            self.layer = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
            self.classifier = nn.Linear(channels, 8)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.classifier(self.layer(x).relu().mean((2, 3)))
            return found

    return {
        "3x3 convolution of 256 channels, 28 x 28, batch 4": (lambda: Images(256, 3).eval(), (4, 256, 28, 28)),
        "3x3 convolution of 128 channels, 56 x 56, batch 4": (lambda: Images(128, 3).eval(), (4, 128, 56, 56)),
        "1x1 convolution of 1024 channels, 14 x 14, batch 8": (lambda: Images(1024, 1).eval(), (8, 1024, 14, 14)),
        "linear layer of 1024 features, 1024 rows": (
            lambda: nn.Sequential(nn.Linear(1024, 1024), nn.ReLU()).eval(),
            (1024, 1024),
        ),
    }


def _noise(shape: tuple[int, ...]) -> Tensor:
    import torch

    return torch.rand(shape, generator=torch.Generator().manual_seed(0))
