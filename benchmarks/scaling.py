"""How cost grows with images and qconfigs, and whether memory grows with images.

The embedded MobileNetV2 on the first images of its evaluation set: every number of images, and of qconfigs, has a turn
in each round. A line is fitted to the medians; cost counts as linear where no median lies off it by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import linear_regression, median

from tabulate import tabulate

from benchmarks.estimate import estimate
from benchmarks.footer import footer
from benchmarks.goal import Goal, goals
from benchmarks.page import FOLDER, insert, write_json
from benchmarks.rounds import Work, in_rounds
from benchmarks.turns import Turns, add_locks
from pytest_ptq.errors import MeasurementError

COMMAND = "python -m benchmarks scaling"
SUITE = "mobilenet_v2"
IMAGES = (1000, 2000, 4000, 8000)
QCONFIGS = (1, 2, 4)
NAMES = ("x86", "minmax", "percentile", "mse")
QCONFIG_IMAGES = 500
ROUNDS = 9
STREAMS = (1_000, 10_000, 50_000)
OFF_GOAL, GROWTH_GOAL_MB = 10.0, 10.0
CALIBRATING, EVALUATING, SWEEPING = "calibrating `x86`", "evaluating fp32 and int8", "accuracy of several qconfigs"


@dataclass(frozen=True)
class Line:
    """seconds = offset + slope * count, by least squares over medians.

    Args:
        slope: seconds for each one more.
        offset: seconds.
        off: largest distance of a median from the line, as a share of the line there.
    """

    slope: float
    offset: float
    off: float


def fit(times: Mapping[int, Sequence[float]]) -> Line:
    """The line through the medians. Raises MeasurementError for fewer than three numbers: any two fit a line."""
    if len(times) < 3:
        raise MeasurementError(f"{len(times)} points cannot show that cost is linear")
    counts, seconds = list(times), [median(samples) for samples in times.values()]
    slope, offset = linear_regression(counts, seconds)
    off = max(abs(s / (offset + slope * count) - 1) for count, s in zip(counts, seconds, strict=True))
    return Line(slope, offset, off)


def table(arguments: Sequence[str] = ()) -> str:
    """The tables as Markdown, also written to the files that the arguments name. Raises PTQError."""
    options = _parser().parse_args(arguments)
    turns = Turns(options.lock)
    times = measure(options.images, options.rounds, turns)
    with turns.preparing():
        peaks = {count: stream(count) for count in options.stream}
    text = render(times, peaks)
    write_json(Path(options.json), {"seconds": times, "lines": {n: asdict(fit(t)) for n, t in times.items()},
                                    "stream_peak_mb": peaks})  # fmt: skip
    if options.into:
        insert(Path(options.into), f"{text}\n\n{footer(COMMAND)}", "scaling")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    numbers = {"type": int, "nargs": "+", "metavar": "N"}
    parser.add_argument("--images", default=IMAGES, help="how many, in turns", **numbers)  # type: ignore[arg-type]
    parser.add_argument("--stream", default=STREAMS, help="images of the streams", **numbers)  # type: ignore[arg-type]
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"of turns, {ROUNDS} by default")
    add_locks(parser)
    parser.add_argument("--into", metavar="FILE", help="put the tables between the marks of a Markdown file too")
    parser.add_argument("--json", default=str(FOLDER / "scaling.json"), metavar="FILE", help="where JSON goes")
    return parser


def measure(images: Sequence[int], rounds: int, turns: Turns) -> dict[str, dict[int, list[float]]]:
    """Seconds by what was done, by how many there were, one a round."""
    from benchmarks.scaling_work import Subject

    with turns.preparing():
        subject = Subject(SUITE, max(images))
    works: dict[tuple[str, int], Work] = {}
    for count in images:
        works[CALIBRATING, count] = subject.calibrating(count)
        works[EVALUATING, count] = subject.evaluating(count)
    for count in QCONFIGS:
        works[SWEEPING, count] = subject.judging(NAMES[:count], QCONFIG_IMAGES)
    flat = in_rounds({f"{count} {name}": work for (name, count), work in works.items()}, rounds, turns)
    found: dict[str, dict[int, list[float]]] = {}
    for name, count in works:
        found.setdefault(name, {})[count] = flat[f"{count} {name}"]
    return found


def stream(count: int) -> float:
    """MiB at most of a process that quantizes and judges a tiny model on so many images. Raises MeasurementError."""
    command = [sys.executable, "-m", "benchmarks.stream", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(f"the stream of {count} images failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mb"])


def render(times: Mapping[str, Mapping[int, Sequence[float]]], peaks: Mapping[int, float]) -> str:
    """Seconds by count, the lines through them, memory, and what all says of the goals."""
    parts, reached = [], []
    for name, by_count in times.items():
        line = fit(by_count)
        what = "qconfigs" if name == SWEEPING else "images"
        lines = [[f"{count:,}", f"{estimate(samples):.2f}"] for count, samples in by_count.items()]
        said = (
            f"{1000 * line.slope:.2f} ms for each one more and {line.offset:.2f} s, {100 * line.off:.1f} % off at most."
        )
        parts.append(f"### {name}\n\n{tabulate(lines, [what, 's'], 'github', disable_numparse=True)}\n\n{said}")
        reached.append(Goal(f"{name}: off a line", 100 * line.off, OFF_GOAL, "%", 1))
    lines = [[f"{count:,}", f"{peak:.0f}"] for count, peak in peaks.items()]
    parts.append(f"### Memory\n\n{tabulate(lines, ['images', 'peak MiB'], 'github', disable_numparse=True)}")
    title = f"memory added from {min(peaks):,} to {max(peaks):,} images"
    reached.append(Goal(title, peaks[max(peaks)] - peaks[min(peaks)], GROWTH_GOAL_MB, "MiB", 1))
    return "\n\n".join([*parts, goals(reached)])
