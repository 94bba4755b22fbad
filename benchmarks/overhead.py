"""What the plugin costs whoever does not wait for a quantized model: help, collection, and the whole main job.

Fresh processes, with the plugin and without it in turns; the median of the differences within pairs, with its 95 %
interval. The main job runs with an empty cache first, and then with what that left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tabulate import tabulate

from benchmarks import main_job
from benchmarks.footer import footer
from benchmarks.goal import Goal, goals
from benchmarks.main_job import ROOT, Usage
from benchmarks.median import median_interval
from benchmarks.page import FOLDER, insert, write_json
from benchmarks.turns import Turns, add_locks
from pytest_ptq.errors import MeasurementError

COMMAND = "python -m benchmarks overhead"
PAIRS = 20
HELP_GOAL_MS, TORCH_GOAL, MAIN_GOAL_S = 30.0, 0, 90.0
MAIN_RUNS = 2
WITHOUT = ("-p", "no:ptq")
COLLECT = ("--collect-only", "-q", "--ptq-suite", "resnet50")
RUN = "import json, os, sys, pytest; status = pytest.main(sys.argv[2:]); sys.stdout.flush(); " + (
    "open(sys.argv[1], 'w').write(json.dumps([int(status), 'torch' in sys.modules]))"
)
"""Runs pytest, and writes its status and whether torch was imported into the file named first."""


@dataclass(frozen=True)
class Found:
    """Everything that was measured, in seconds.

    Args:
        without: `pytest --help` without the plugin, one a pair.
        with_plugin: with it, in the same pairs.
        collecting: collection of a suite.
        torch: whether collecting imported torch.
        main_job: with an empty cache, and then with what it left.
    """

    without: tuple[float, ...]
    with_plugin: tuple[float, ...]
    collecting: tuple[float, ...]
    torch: bool
    main_job: tuple[Usage, ...] = ()


def table(arguments: Sequence[str] = ()) -> str:
    """The table as Markdown, also written to the files that the arguments name. Raises PTQError."""
    options = _parser().parse_args(arguments)
    turns = Turns(options.lock)
    without, with_plugin = help_pairs(options.pairs, turns)
    collected = collections(options.pairs // 2, turns)
    runs = () if options.no_main_job else main_jobs(turns)
    found = Found(
        tuple(without), tuple(with_plugin), tuple(s for s, _ in collected), any(t for _, t in collected), runs
    )
    text = render(found)
    write_json(Path(options.json), asdict(found))
    if options.into:
        insert(Path(options.into), f"{text}\n\n{footer(COMMAND)}", "overhead")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, metavar="N", help=f"of processes, {PAIRS} by default")
    parser.add_argument("--no-main-job", action="store_true", help="leave out the ResNet50 suite")
    add_locks(parser)
    parser.add_argument("--into", metavar="FILE", help="put the table between the marks of a Markdown file too")
    parser.add_argument("--json", default=str(FOLDER / "overhead.json"), metavar="FILE", help="where JSON goes")
    return parser


def help_pairs(count: int, turns: Turns) -> tuple[list[float], list[float]]:
    """Seconds of `pytest --help` without and with the plugin; a pair more goes before, to warm the disk."""
    times: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory(prefix="ptq-help-") as name:
        for number in turns.each(range(-1, count)):
            for which in (0, 1) if random.Random(number).random() < 0.5 else (1, 0):
                took, _ = timed(["--help", *(() if which else WITHOUT)], Path(name), Path(name) / "compiled")
                if number >= 0:
                    times[which].append(took)
    return times


def collections(count: int, turns: Turns) -> list[tuple[float, bool]]:
    """Seconds to collect the ResNet50 suite, and whether that imported torch; one more goes before."""
    with tempfile.TemporaryDirectory(prefix="ptq-collect-") as name:
        return [timed(COLLECT, ROOT, Path(name)) for _ in turns.each(range(-1, count))][1:]


def timed(arguments: Sequence[str], folder: Path, compiled: Path) -> tuple[float, bool]:
    """Seconds of a fresh process that runs pytest, and whether torch was imported.

    Args:
        arguments: of pytest.
        folder: where it runs.
        compiled: where Python keeps what it has compiled: as on a user's machine, only the first process compiles.

    Raises MeasurementError when pytest does not end well.
    """
    with tempfile.TemporaryDirectory(prefix="ptq-overhead-") as name:
        said = Path(name) / "said.json"
        command = [sys.executable, "-c", RUN, str(said), "-p", "no:cacheprovider", *arguments]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, env=_environment(compiled))
        took = time.perf_counter() - start
        status, torch = (
            json.loads(said.read_text(encoding="utf-8")) if said.is_file() else (done.returncode or 1, False)
        )
    if status:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise MeasurementError(f"pytest {' '.join(arguments)} ended with {status} ({' '.join(last)})")
    return took, bool(torch)


def _environment(compiled: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTEST_ADDOPTS": "", "PYTHONPYCACHEPREFIX": str(compiled)}


def main_jobs(turns: Turns) -> tuple[Usage, ...]:
    """The ResNet50 suite with an empty cache, and then with what that left."""
    found = []
    with tempfile.TemporaryDirectory(prefix="ptq-cache-") as cache:
        for _ in range(MAIN_RUNS):
            with turns.timing():
                found.append(main_job.run(Path(cache)))
    return tuple(found)


def render(found: Found) -> str:
    """The table and what it says of the goals. Raises MeasurementError for fewer than six pairs."""
    added = [with_ - without for with_, without in zip(found.with_plugin, found.without, strict=True)]
    lines = [
        ["`pytest --help` without the plugin", _ms(found.without)],
        ["with it", _ms(found.with_plugin)],
        ["the difference within pairs", _ms(added)],
        ["`pytest --collect-only --ptq-suite resnet50`", _ms(found.collecting)],
        ["imports torch", "yes" if found.torch else "no"],
    ]
    reached = [
        Goal("`pytest --help`: what the plugin adds", 1000 * median(added), HELP_GOAL_MS, "ms", 1),
        Goal("collecting a suite: modules of torch imported", int(found.torch), TORCH_GOAL, digits=0),
    ]
    for usage, cache in zip(found.main_job, ("empty cache", "second run"), strict=False):
        title = f"`pytest --ptq-suite resnet50`, {cache}"
        lines.append([title, f"{usage.seconds:.1f} s, {usage.peak_gb:.2f} GB, " + ("passed", "failed")[usage.status]])
        reached.append(Goal(title, usage.seconds, MAIN_GOAL_S, "s", 1))
    measured = tabulate(lines, ["", "median [95 % interval], ms"], "github", disable_numparse=True)
    return f"{measured}\n\n{goals(reached)}"


def _ms(seconds: Sequence[float]) -> str:
    value, low, high = (1000 * s for s in median_interval(seconds))
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"
