"""What calibration costs beside the plain fp32 forward over the same images, and what follows it.

The forward passes, the calibrations and torch FX's take turns in one process; medians over rounds with a 95 % interval.
MobileNetV2 has the photographs of the folder that PTQ_IMAGENET_KIT names, and is left out where there is none.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tabulate import tabulate

from benchmarks import main_job
from benchmarks.accuracy_cases import Case, cases
from benchmarks.estimate import estimate, ratios
from benchmarks.footer import footer
from benchmarks.goal import Goal, goals
from benchmarks.page import FOLDER, insert, write_json
from benchmarks.rounds import in_rounds
from benchmarks.turns import Turns, add_locks

COMMAND = "python -m benchmarks calibration"
IMAGES = {"mobilenet_v2_kit": 96, "resnet50": 512}
"""Calibration images, by case."""
ROUNDS = 10
CONVERTED = "resnet50"
FP32, FROZEN, MINMAX, X86, FX = "fp32", "frozen", "minmax", "x86", "torch_fx"
ONE, OBSERVERS, PRESET, CONVERT = "one", "observers", "presets", "convert"
SHOWN = {
    FP32: "plain fp32 forward of torchvision's model",
    FROZEN: "forward of the frozen fp32 model",
    MINMAX: "calibrating `minmax`",
    X86: "calibrating `x86`, histograms included",
    FX: "torch FX x86, HistogramObserver",
}
HEADS = ["", "ms an image", "over the plain forward"]
FORWARD_GOAL, SWEEP_GOAL, CONVERT_GOAL_S, MEMORY_GOAL_GB = 1.15, 1.3, 2.0, 1.5


@dataclass(frozen=True)
class Times:
    """Of one model.

    Args:
        name: of the case.
        images: that calibrated.
        passes: seconds a round, by what was done.
        sweeps: seconds a round of one preset and of six qconfigs, and of a conversion.
    """

    name: str
    images: int
    passes: Mapping[str, Sequence[float]]
    sweeps: Mapping[str, Sequence[float]]


def table(arguments: Sequence[str] = ()) -> str:
    """The tables as Markdown, also written to the files that the arguments name. Raises PTQError."""
    options = _parser().parse_args(arguments)
    turns = Turns(options.lock)
    chosen = [case for case in cases() if case.name in IMAGES and (case.kind == "embedded" or case.argument)]
    found = [measure(case, IMAGES[case.name], options.rounds, turns) for case in chosen]
    peak_gb = None if options.no_main_job else _peak_gb(turns)
    text = render(found, peak_gb)
    write_json(Path(options.json), {"models": [asdict(times) for times in found], "main_job_peak_gb": peak_gb})
    if options.into:
        insert(Path(options.into), f"{text}\n\n{footer(COMMAND)}", "calibration")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"of turns, {ROUNDS} by default")
    parser.add_argument("--no-main-job", action="store_true", help="leave out the memory of the ResNet50 suite")
    add_locks(parser)
    parser.add_argument("--into", metavar="FILE", help="put the tables between the marks of a Markdown file too")
    parser.add_argument("--json", default=str(FOLDER / "calibration.json"), metavar="FILE", help="where JSON goes")
    return parser


def measure(case: Case, images: int, rounds: int, turns: Turns) -> Times:
    """All pieces of work on one model. Raises PTQError."""
    from benchmarks.calibration_work import OBSERVING, SWEPT, Subject
    from pytest_ptq.qconfig import PRESETS

    with turns.preparing():
        subject = Subject(case, images)
        converting = subject.converting(X86)
    passes = {
        FP32: subject.forward(subject.model),
        FROZEN: subject.forward(subject.fp32),
        MINMAX: subject.calibrating(MINMAX),
        X86: subject.calibrating(X86),
        FX: subject.torch_fx(),
    }
    sweeps = {
        ONE: subject.sweeping([PRESETS[X86]]),
        OBSERVERS: subject.sweeping(OBSERVING),
        PRESET: subject.sweeping(SWEPT),
        CONVERT: converting,
    }
    return Times(case.name, subject.images, in_rounds(passes, rounds, turns), in_rounds(sweeps, rounds, turns))


def _peak_gb(turns: Turns) -> float:
    with turns.preparing(), tempfile.TemporaryDirectory(prefix="ptq-cache-") as cache:
        return main_job.run(Path(cache)).peak_gb


def render(found: Sequence[Times], peak_gb: float | None) -> str:
    """A table a model, and what all say of the goals."""
    parts = [_section(times) for times in found]
    reached = [goal for times in found for goal in _goals(times)]
    if peak_gb is not None:
        title = "peak memory of `pytest --ptq-suite resnet50`, its largest process"
        reached.append(Goal(title, peak_gb, MEMORY_GOAL_GB, "GB"))
    return "\n\n".join([*parts, goals(reached)])


def _section(times: Times) -> str:
    plain = times.passes[FP32]
    lines = [
        [title, f"{estimate([1000 * s / times.images for s in times.passes[key]]):.2f}",
         "" if key == FP32 else f"{ratios(times.passes[key], plain):.2f}"]
        for key, title in SHOWN.items()
    ]  # fmt: skip
    made = [
        ["int8 model of `x86` from scratch", f"{estimate(times.sweeps[ONE]):.2f}"],
        ["of six qconfigs, one for each observer", f"{estimate(times.sweeps[OBSERVERS]):.2f}"],
        ["of six presets, of which `x86+bias` reads images again", f"{estimate(times.sweeps[PRESET]):.2f}"],
        ["conversion of `x86` alone", f"{estimate(times.sweeps[CONVERT]):.2f}"],
    ]
    first = tabulate(lines, HEADS, "github", disable_numparse=True)
    second = tabulate(made, ["", "s"], "github", disable_numparse=True)
    return f"### {times.name}\n\n{times.images} images.\n\n{first}\n\n{second}"


def _goals(times: Times) -> Iterator[Goal]:
    for key in (MINMAX, X86):
        found = ratios(times.passes[key], times.passes[FP32]).value
        yield Goal(f"{times.name}: calibrating `{key}` over the plain forward", found, FORWARD_GOAL)
    for key, title in ((OBSERVERS, "six qconfigs, one for each observer"), (PRESET, "six presets, with `x86+bias`")):
        yield Goal(f"{times.name}: {title}, over one", ratios(times.sweeps[key], times.sweeps[ONE]).value, SWEEP_GOAL)
    if times.name == CONVERTED:
        yield Goal(f"{times.name}: conversion", median(times.sweeps[CONVERT]), CONVERT_GOAL_S, "s")
