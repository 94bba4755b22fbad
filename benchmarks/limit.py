"""How near int8 models come to what VNNI can multiply: instructions on registers alone, in the same rounds.

What a core can do is no constant on a virtual machine: a core of AMD Zen 5 starts two of these instructions a cycle,
and one where its other thread is at work for somebody else.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tabulate import tabulate

from benchmarks import latency_models
from benchmarks.estimate import estimate, ratios
from benchmarks.footer import footer
from benchmarks.goal import Goal, goals
from benchmarks.page import FOLDER, insert, write_json
from benchmarks.rounds import in_rounds
from benchmarks.turns import Turns, add_locks

COMMAND = "python -m benchmarks limit"
MODELS = ("resnet18", "resnet50", "mobilenet_v2")
THREADS = (1, 2)
ROUNDS = 20
TURN_S = 0.2
JUDGED, GOAL = ("resnet50", 1), 1.35
MODEL, REGISTERS = "model", "registers"
HEADS = ["model", "threads", "GMAC", "ms", "GMAC/s on registers", "ms at that rate", "over the limit"]


@dataclass(frozen=True)
class Times:
    """Of one model.

    Args:
        name: of torchvision.
        threads: it ran on.
        macs: multiply-accumulates of one image.
        model_s: seconds an image, by round.
        registers_s: seconds that as many multiply-accumulates take on registers, by round.
    """

    name: str
    threads: int
    macs: int
    model_s: Sequence[float]
    registers_s: Sequence[float]


def table(arguments: Sequence[str] = ()) -> str:
    """The table as Markdown, also written to the files that the arguments name. Raises UnavailableError."""
    options = _parser().parse_args(arguments)
    turns = Turns(options.lock)
    found = [measure(name, threads, options.rounds, turns) for name in MODELS for threads in THREADS]
    text = render(found)
    write_json(Path(options.json), {"models": [asdict(times) for times in found]})
    if options.into:
        insert(Path(options.into), f"{text}\n\n{footer(COMMAND)}", "limit")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"of turns, {ROUNDS} by default")
    add_locks(parser)
    parser.add_argument("--into", metavar="FILE", help="put the table between the marks of a Markdown file too")
    parser.add_argument("--json", default=str(FOLDER / "limit.json"), metavar="FILE", help="where JSON goes")
    return parser


def measure(name: str, threads: int, rounds: int, turns: Turns) -> Times:
    """One model, deployed, and registers, in turns in this process."""
    import torch

    from pytest_ptq import engine
    from pytest_ptq.engine.kernels import native

    with turns.preparing():
        torch.set_num_threads(threads)
        model, images = latency_models.build(name), latency_models.images()
        deployed = engine.deploy(engine.quantize(model, images, "x86"), images[0])
        macs = latency_models.macs(model, images[0])
        image_s = _fastest(lambda: deployed(images[0]))
        round_s = _fastest(lambda: native.multiply(2**16, threads)) / 2**16
        calls, times = max(1, round(TURN_S / image_s)), max(1, round(TURN_S / round_s))
    works = {
        MODEL: lambda: lambda: [deployed(images[0]) for _ in range(calls)],
        REGISTERS: lambda: lambda: native.multiply(times, threads),
    }
    with torch.inference_mode():
        took = in_rounds(works, rounds, turns)
    done = native.multiply(1, threads) * times
    return Times(name, threads, macs, [s / calls for s in took[MODEL]], [s * macs / done for s in took[REGISTERS]])


def _fastest(call: Callable[[], object], calls: int = 10) -> float:
    import time

    import torch

    taken = []
    with torch.inference_mode():
        for _ in range(calls):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return min(taken)


def render(found: Sequence[Times]) -> str:
    """A row a model and number of threads, and what they say of the goal."""
    lines = [
        [
            times.name, str(times.threads), f"{times.macs / 1e9:.2f}", f"{estimate(_ms(times.model_s)):.2f}",
            f"{estimate([times.macs / s / 1e9 for s in times.registers_s]):.0f}",
            f"{median(_ms(times.registers_s)):.2f}", f"{ratios(times.model_s, times.registers_s):.2f}",
        ]
        for times in found
    ]  # fmt: skip
    reached = [
        Goal(f"int8 / arithmetic limit of VNNI in the same rounds, {times.name}, 1 thread",
             ratios(times.model_s, times.registers_s).value, GOAL)
        for times in found if (times.name, times.threads) == JUDGED
    ]  # fmt: skip
    return f"{tabulate(lines, HEADS, 'github', disable_numparse=True)}\n\n{goals(reached)}"


def _ms(seconds: Sequence[float]) -> list[float]:
    return [1000 * s for s in seconds]
