"""`python -m benchmarks speeds`: how far int8/fp32 moves with what data take from core to core, slow as hosts make it.

The models are timed in turn, each turn with the probe that a latency gate takes down before and behind it, for as long
as it takes the machine to change. A turn during which it changed is left out. Weights are random: times are no others.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_ptq.measure.conditions import pinned_threads, resting_gc
from pytest_ptq.measure.exchange import exchange_us
from pytest_ptq.speeds import CORES

if TYPE_CHECKING:
    from torch import nn

SIZE, PAIRS = 224, 12
MODELS = (
    "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "shufflenet_v2_x1_0", "squeezenet1_1", "resnet18",
    "efficientnet_b0",
)  # fmt: skip
SMALL = (("mobilenet_v2", 96), ("resnet18", 32))
"""At such sizes cores hand over more for what they compute."""


@dataclass(frozen=True)
class Turn:
    """One model, timed once: medians in ms, and the probe in microseconds before and after."""

    model: str
    fp32_ms: float
    int8_ms: float
    before_us: float
    after_us: float

    @property
    def steady(self) -> bool:
        """Whether the machine kept its speed meanwhile."""
        return max(self.before_us / self.after_us, self.after_us / self.before_us) < CORES.same


def table(arguments: Sequence[str] = ()) -> str:
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks speeds", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to look (default 10)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    with torch.inference_mode(), pinned_threads(options.threads), resting_gc():
        timed = {name: _deployed(*made) for name, made in _models().items()}
        turns: list[Turn] = []
        end = time.monotonic() + 60 * options.minutes
        while time.monotonic() < end:
            turns += [_turn(name, *models, options.threads) for name, models in timed.items()]
    return text(turns)


def text(turns: Sequence[Turn]) -> str:
    """Markdown: each model at the lower and the upper of the speeds that were seen, and the factor between its ratios.

    Speeds that differ by less than what a judge takes for two are one.
    """
    from tabulate import tabulate

    steady = [turn for turn in turns if turn.steady]
    probes = [turn.before_us for turn in steady]
    if not probes or max(probes) / min(probes) < CORES.same:
        return f"The machine kept one speed for {len(steady)} turns."
    edge = math.sqrt(min(probes) * max(probes))
    near, far = ([t for t in steady if (t.before_us > edge) is slow] for slow in (False, True))
    both = [name for name in dict.fromkeys(t.model for t in near) if any(t.model == name for t in far)]
    rows = [_row(name, [[t for t in turns if t.model == name] for turns in (near, far)]) for name in both]
    us = [median(t.before_us for t in turns) for turns in (near, far)]
    heads = ("model", *(f"{what}, {at:.1f} us" for what in ("fp32 ms", "int8 ms", "int8/fp32") for at in us), "moved")
    most = max((row[-1] for row in rows), default="")
    seen = f"{len(near)} turns at {us[0]:.1f} us from core to core and {len(far)} at {us[1]:.1f}"
    head = f"{seen}: {us[1] / us[0]:.2f} times; int8/fp32 moved by a factor of {most} at most."
    return f"{head}\n\n{tabulate(rows, heads, tablefmt='pipe', disable_numparse=True)}"


def _row(name: str, speeds: Sequence[Sequence[Turn]]) -> tuple[str, ...]:
    fp32, int8, ratios = (
        [median(map(of, turns)) for turns in speeds]
        for of in (lambda t: t.fp32_ms, lambda t: t.int8_ms, lambda t: t.int8_ms / t.fp32_ms)
    )
    moved = max(ratios) / min(ratios)
    return (name, *(f"{x:.2f}" for x in (*fp32, *int8)), *(f"{x:.3f}" for x in ratios), f"{moved:.2f}")


def _models() -> Mapping[str, tuple[nn.Module, int]]:
    import torchvision

    asked = (*((name, SIZE) for name in MODELS), *SMALL)
    return {f"{name}, {size} x {size}": (getattr(torchvision.models, name)(), size) for name, size in asked}


def _deployed(model: nn.Module, size: int) -> tuple[Any, Any, Any]:
    """fp32 and int8 in the form that is timed, and an input."""
    import torch

    from pytest_ptq import engine
    from pytest_ptq.engine.deployment import called_as_deployed

    torch.manual_seed(0)
    example = torch.rand(1, 3, size, size)
    int8 = engine.quantize(model.eval(), [torch.rand(2, 3, size, size)])
    return called_as_deployed(engine.freeze(model), example), called_as_deployed(int8, example), example


def _turn(name: str, fp32: Callable[[Any], Any], int8: Callable[[Any], Any], example: Any, threads: int) -> Turn:
    before = exchange_us(threads)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(PAIRS):
        for model, found in zip((fp32, int8), times, strict=True):
            start = time.perf_counter()
            model(example)
            found.append(1000 * (time.perf_counter() - start))
    # The first pair finds its weights in no cache.
    return Turn(name, median(times[0][1:]), median(times[1][1:]), before, exchange_us(threads))
