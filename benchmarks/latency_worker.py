"""`python -m benchmarks.latency_worker MODULE KEY BUILDER MODEL THREADS`: one engine in a process that stays alive.

It makes the model, says so, and then times a turn for every line that it reads. Answers are lines of JSON on what was
standard output; whatever the engine itself prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import IO, TYPE_CHECKING, Any

from benchmarks.memory import peak_mb
from benchmarks.rivals.rival import Predict, Rival, Settings
from pytest_ptq.measure.conditions import resting_gc
from pytest_ptq.measure.load import LoadMeter
from pytest_ptq.measure.pairs import probe_us

if TYPE_CHECKING:
    from torch import Tensor

FIRST_CALLS = 4
"""An engine may compile in its first call, and once more when it has seen a few."""


@dataclass(frozen=True)
class Pace:
    """How long one turn lasts.

    Args:
        warmup_s: seconds of running before anything is timed; three calls at least.
        timed_s: seconds of timed calls.
        fewest: timed calls at least.
    """

    warmup_s: float = 0.12
    timed_s: float = 0.35
    fewest: int = 7


@dataclass(frozen=True)
class Turn:
    """What one engine timed in one round.

    Args:
        median_ms: of the calls.
        min_ms: the fastest call.
        calls: how many.
        taken: share of the CPUs that other programs and the host took meanwhile.
        probe_us: a fixed piece of plain Python: how fast the machine ran.
        faults: page faults a call.
    """

    median_ms: float
    min_ms: float
    calls: int
    taken: float = 0.0
    probe_us: float = 0.0
    faults: float = 0.0


def time_turn(predict: Callable[[], object], pace: Pace, clock: Callable[[], float] = time.perf_counter) -> Turn:
    """Call until warm, then time single calls."""
    start, calls = clock(), 0
    while calls < 3 or clock() - start < pace.warmup_s:
        predict()
        calls += 1
    probe = min(probe_us(), probe_us())
    meter, faults = LoadMeter(), _faults()
    times: list[float] = []
    begin = now = clock()
    while len(times) < pace.fewest or now - begin < pace.timed_s:
        before = clock()
        predict()
        now = clock()
        times.append(1000 * (now - before))
    each = (_faults() - faults) / len(times)
    return Turn(median(times), min(times), len(times), meter.load().taken, probe, each)


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main(arguments: list[str], requests: IO[str], answers: IO[str]) -> int:
    module, key, builder, model, threads = arguments

    def answer(**found: Any) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    try:
        start = time.monotonic()
        predict, example = _make(module, key, builder, model, int(threads))
        how = " ".join(str(getattr(predict, name, "")) for name in ("kernels", "caller")).strip()
        answer(ready=time.monotonic() - start, peak_mb=peak_mb(), how=how)
        for line in requests:
            answer(turn=_turn(predict, example, json.loads(line)))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        answer(error=f"{type(error).__name__}: {first}")
        raise
    return 0


def _make(module: str, key: str, builder: str, model: str, threads: int) -> tuple[Predict, Tensor]:
    """The engine's int8 model, compiled, and the one input it is timed with."""
    import torch

    torch.set_num_threads(threads)
    (rival,) = [r for r in importlib.import_module(module).RIVALS if r.key == key]
    assert isinstance(rival, Rival)
    models = importlib.import_module(builder)
    batches = models.images()
    predict = rival.quantize(models.build(model), batches, Settings(threads, compiled=True))
    with torch.inference_mode():
        for _ in range(FIRST_CALLS):
            logits = predict(batches[0])
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("its logits are not finite")
    return predict, batches[0]


def _turn(predict: Predict, example: Tensor, pace: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    with torch.inference_mode(), resting_gc():
        return asdict(time_turn(lambda: predict(example), Pace(**pace)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the engines' own, among them that torch.ao will be removed
    # Whatever a package prints on descriptor 1 must not come between the answers.
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    code = main(sys.argv[1:], sys.stdin, own)
    # Not sys.exit: pools of compilers and threads have been seen to hang there.
    own.flush()
    os._exit(code)
