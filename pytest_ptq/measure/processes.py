"""Fresh worker processes, started, heard and ended: none outlives the call that started it.

Samples of one process are correlated (it keeps its memory layout for life), so that only several processes tell how
far a latency varies. Source: Barrett et al., Virtual Machine Warmup Blows Hot and Cold, arXiv 1602.00602.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.load import Load
from pytest_ptq.measure.pairs import PACE, Pace, Pairs, ProcessTimes

REFERENCE = "fp32"
CONTROL = "fp32 again"
"""The reference as a variant of itself: what is measured of it is noise."""
GO = b"go\n"
TIMEOUT_S = 300.0
"""How long a worker may take to load, and again to measure."""
PACKAGE = Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "pytest_ptq.worker")


class Stored:
    """What a model's file holds, in one that only open descriptors lead to: nothing is left of it, however all ends.

    Weights are then in memory once, as the model's own. The file is closed with this object at the latest.

    Args:
        parts: of the content, in order.

    Raises:
        MeasurementError: there is no room for it.
    """

    def __init__(self, parts: Iterable[bytes | memoryview]) -> None:
        self._file = tempfile.TemporaryFile(prefix="pytest-ptq-")  # noqa: SIM115 - closed by `close`
        self.close = weakref.finalize(self, self._file.close)
        try:
            self._file.writelines(parts)
            self._file.flush()
        except OSError as error:
            self.close()
            remedy = f"Is there room in {tempfile.gettempdir()}? TMPDIR names another folder."
            message = f"cannot store a model for the processes that time it: {error.strerror}"
            raise MeasurementError(message, place="latency", remedy=remedy) from error

    def fileno(self) -> int:
        """Its descriptor, for processes that inherit it."""
        return self._file.fileno()


Model: TypeAlias = bytes | Path | Stored


@dataclass(frozen=True)
class Job:
    """What each process is to do.

    Args:
        models: stored models by name, as bytes, or as files that outlive the processes; REFERENCE is what all others
            are timed against.
        shape: of the input.
        threads: threads to compute with.
        pace: how much to measure.
        runtime: which loads and runs them all: `torch` means this engine.
    """

    models: Mapping[str, Model] = field(repr=False)
    shape: tuple[int, ...]
    threads: int
    pace: Pace = PACE
    runtime: str = "torch"


def run_processes(
    job: Job,
    seeds: Sequence[int],
    *,
    at_once: int = 1,
    command: Sequence[str] = COMMAND,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[ProcessTimes]:
    """Measure in one fresh process for each seed, never in two at a time; yields as each is done.

    Up to `at_once` of them load together, which takes most of their time, and then wait without using the CPU for
    their turn. Whatever happens, no process is left when the iterator is closed, and no file.

    Raises MeasurementError when a process fails, dies or takes too long.
    """
    with contextlib.ExitStack() as stack:
        files = {name: _file(model, stack) for name, model in job.models.items() if not isinstance(model, Path)}
        for start in range(0, len(seeds), at_once):
            with contextlib.ExitStack() as loaded:
                crew = [
                    loaded.enter_context(Worker(job, files, seed, command, timeout_s))
                    for seed in seeds[start : start + at_once]
                ]
                for worker in crew:
                    worker.expect("ready")
                for worker in crew:
                    worker.send(GO)
                    yield from_wire(worker.expect("times"))
                    worker.end()


def _file(model: bytes | Stored, stack: contextlib.ExitStack) -> Stored:
    return model if isinstance(model, Stored) else stack.enter_context(contextlib.closing(Stored([model])))


class Worker:
    """One process. A context manager: the process is dead and waited for on the way out, whatever happened."""

    def __init__(
        self, job: Job, files: Mapping[str, Stored], seed: int, command: Sequence[str], timeout_s: float
    ) -> None:
        self._timeout_s = timeout_s
        self._said = b""
        self._complaints = tempfile.TemporaryFile(prefix="pytest-ptq-")  # noqa: SIM115 - closed by __exit__
        descriptors = [file.fileno() for file in files.values()]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            pass_fds=descriptors,
            env={**os.environ, "PYTHONPATH": _python_path()},
            # Ctrl-C is for this process, which then ends that one.
            start_new_session=True,
        )
        plain = {
            "files": _paths(job, files), "runtime": job.runtime, "shape": job.shape, "threads": job.threads,
            "seed": seed, "pace": asdict(job.pace),
        }  # fmt: skip
        self.send(json.dumps(plain).encode() + b"\n")

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._complaints.close()

    def end(self) -> None:
        """Kill the process if it still runs, and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # A process that has died is noticed where its answer is missing.
        with contextlib.suppress(OSError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def expect(self, key: str) -> Any:
        """The value of the next answer under `key`. Raises MeasurementError when there is none."""
        line = self._line()
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            raise MeasurementError(**answer["error"])
        if not isinstance(answer, dict) or key not in answer:
            raise self._dead()
        return answer[key]

    def _line(self) -> bytes:
        """The next line of standard output; empty when the process ended. Raises MeasurementError after the timeout."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + self._timeout_s
        while b"\n" not in self._said:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise MeasurementError(
                    f"the process that measures latency gave no answer for {self._timeout_s:.0f} s",
                    place="latency",
                    remedy="Is the machine out of memory? Run with --ptq-latency off to judge the rest.",
                )
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                return b""
            self._said += chunk
        line, _, self._said = self._said.partition(b"\n")
        return line

    def _dead(self) -> MeasurementError:
        try:
            status: int | None = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            status = None
        how = "said something else" if status is None else f"ended with status {status}"
        self._complaints.seek(0)
        last = self._complaints.read().decode(errors="replace").strip().splitlines()[-1:]
        said = f" ({last[0][:200]})" if last else ""
        return MeasurementError(
            f"the process that measures latency {how}{said}",
            place="latency",
            remedy="Was it killed for want of memory?" if status is not None and status < 0 else None,
        )


def _paths(job: Job, files: Mapping[str, Stored]) -> dict[str, str]:
    """Where a process that inherits the descriptors of `files` finds each model."""
    return {
        name: f"/proc/self/fd/{files[name].fileno()}" if name in files else str(model)
        for name, model in job.models.items()
    }


def _python_path() -> str:
    """Where this very package is found, before whatever else is looked through."""
    return os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))


def to_wire(times: ProcessTimes) -> dict[str, Any]:
    """Plain values only."""
    return asdict(times)


def from_wire(plain: Mapping[str, Any]) -> ProcessTimes:
    """The inverse of `to_wire`."""
    pairs = {name: Pairs(**{key: tuple(values) for key, values in p.items()}) for name, p in plain["pairs"].items()}
    return ProcessTimes(**{**plain, "pairs": pairs, "load": Load(**plain["load"])})
