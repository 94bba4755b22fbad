"""The processes of the engines: started one after another, then timed in turns, each while all others rest."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import IO, Any

from benchmarks.latency_rows import Engine
from benchmarks.latency_worker import Pace, Turn
from benchmarks.rivals.process import environment, interpreter
from benchmarks.rivals.rival import Rival
from benchmarks.turns import Turns
from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.pairs import CROWDED

READY_S = 300.0
"""How long an engine may take to quantize and compile."""
TURN_S = 120.0
NAP_S = 0.01
IDLE = 0.05
"""Share of a nap that a process at rest may compute."""
PATIENCE_S = 2.0
REPEATS = 3
"""How often a turn is taken again when other programs came between."""
LOADERS = 2
"""How many get ready at once: most of that is work for one core."""
COMMAND = ("-m", "benchmarks.latency_worker")


@dataclass(frozen=True)
class Plan:
    """How one model is measured.

    Args:
        builder: the module whose `build` and `images` make model and inputs.
        model: its name there.
        threads: of every engine.
        rounds: in each of them every engine has one turn, in random order.
        pace: of a turn.
        turns: taken while the engines get ready, and for some rounds together.
        ready_s: how long an engine may take to quantize and compile.
    """

    builder: str
    model: str
    threads: int
    rounds: int
    pace: Pace
    turns: Turns
    ready_s: float = READY_S


class Worker:
    """One engine's process. A context manager: dead and waited for on the way out, whatever happened."""

    def __init__(self, engine: Rival, plan: Plan, *, rival: bool, log: IO[bytes]) -> None:
        self.engine = engine
        python = interpreter() if rival else sys.executable
        self._said = b""
        self._process = subprocess.Popen(
            [python, *COMMAND, engine.module, engine.key, plan.builder, plan.model, str(plan.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environment(), "OMP_NUM_THREADS": str(plan.threads)},
            start_new_session=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Kill the process and what it started; again and again if you like."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Its session: compilers start processes of their own.
            os.killpg(self._process.pid, 9)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def cpu_s(self) -> float:
        """CPU time it has used; what it has used when it has ended is of no interest."""
        # The clock of another process's CPU time, by the formula of clock_getcpuclockid(3) in Linux.
        with contextlib.suppress(OSError):
            return time.clock_gettime((~self._process.pid << 3) | 2)
        return 0.0

    def turn(self, pace: Pace) -> Turn:
        """Raises MeasurementError when it fails, dies or takes too long."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(asdict(pace)).encode() + b"\n")
            self._process.stdin.flush()
        return Turn(**self.answer("turn", TURN_S)["turn"])

    def answer(self, key: str, limit_s: float) -> Mapping[str, Any]:
        """The next answer, which holds `key`. Raises MeasurementError when it is another, or none."""
        line = self._line(limit_s)
        if not line:
            raise MeasurementError(_ended(self._process.wait()), place=self.engine.name)
        found: Mapping[str, Any] = json.loads(line)
        if key not in found:
            raise MeasurementError(str(found.get("error")), place=self.engine.name)
        return found

    def _line(self, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + limit_s
        while b"\n" not in self._said:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise MeasurementError(f"stopped after {limit_s:g} s", place=self.engine.name)
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                return b""
            self._said += chunk
        line, _, self._said = self._said.partition(b"\n")
        return line


def _ended(code: int) -> str:
    if code < 0:
        names = {int(s): s.name for s in signal.Signals}
        return f"crashed ({names.get(-code, f'signal {-code}')})"
    return f"ended with status {code} and said nothing"


def measure(plan: Plan, engines: Sequence[tuple[Rival, bool]], log: IO[bytes]) -> dict[str, Engine]:
    """Time all engines in the same rounds; one that fails has its reason instead of turns.

    Args:
        plan: what is measured, and how.
        engines: each with whether it runs by the rivals' interpreter.
        log: takes whatever they print.
    """
    found: dict[str, Engine] = {}
    with ExitStack() as stack:
        crew: dict[str, Worker] = {}
        with plan.turns.preparing():
            waiting = list(engines)
            started: list[Worker] = []
            while waiting or started:
                while waiting and len(started) < LOADERS:
                    engine, rival = waiting.pop(0)
                    started.append(stack.enter_context(Worker(engine, plan, rival=rival, log=log)))
                worker = started.pop(0)
                found[worker.engine.key] = _ready(worker, plan)
                if not found[worker.engine.key].error:
                    crew[worker.engine.key] = worker
        for number in plan.turns.each(range(plan.rounds)):
            _round(crew, found, plan.pace, random.Random(number))
    return found


def _ready(worker: Worker, plan: Plan) -> Engine:
    """The engine before its first turn, or its error; says how it went on standard error."""
    try:
        said = worker.answer("ready", plan.ready_s)
    except MeasurementError as error:
        worker.end()
        found = Engine(error=str(error))
    else:
        found = Engine(ready_s=said["ready"], peak_mb=said["peak_mb"], how=said["how"])
    how = found.error or f"ready after {found.ready_s:.0f} s"
    print(
        f"{time.strftime('%H:%M:%S')} {plan.model}, {plan.threads} threads, {worker.engine.key}: {how}",
        file=sys.stderr,
        flush=True,
    )
    return found


def _round(crew: dict[str, Worker], found: dict[str, Engine], pace: Pace, chance: random.Random) -> None:
    """One turn for every engine that still lives."""
    order = list(crew)
    chance.shuffle(order)
    for key in order:
        try:
            turn = _peaceful(crew[key], list(crew.values()), pace)
        except MeasurementError as error:
            crew.pop(key).end()
            found[key] = Engine(error=str(error))
        else:
            found[key] = found[key].after(turn)


def _peaceful(worker: Worker, crew: Sequence[Worker], pace: Pace) -> Turn:
    """A turn that other programs left alone, or else the one they disturbed least."""
    turns: list[Turn] = []
    while not turns or (turns[-1].taken > CROWDED and len(turns) < REPEATS):
        wait_until_idle(crew)
        turns.append(worker.turn(pace))
    return min(turns, key=lambda turn: turn.taken)


def wait_until_idle(crew: Sequence[Worker]) -> None:
    """Until none of them computes: threads of OpenMP and of ONNX Runtime spin for a while after their last call."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        before = [worker.cpu_s() for worker in crew]
        time.sleep(NAP_S)
        if all(worker.cpu_s() - then < IDLE * NAP_S for worker, then in zip(crew, before, strict=True)):
            return
