"""Latency of int8 models against a fair fp32: interleaved pairs in several fresh processes, one number from each.

Times in one process are correlated, so the statistic is one median log ratio a process, and the interval is taken
across processes. Measuring happens in two looks at most: a few processes, and once, when they leave a question open, a
number of further ones that was fixed before. Sources: Bulej et al., Duet benchmarking, arXiv 2001.05811; Barrett et
al., arXiv 1602.00602; Chen and Revels, arXiv 1608.04295.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.pairs import Pairs, ProcessTimes
from pytest_ptq.measure.processes import CONTROL, REFERENCE, Job, Model, run_processes
from pytest_ptq.measure.timed_by import timed_by
from pytest_ptq.student import Mean, mean_of

Progress = Callable[[Iterable[ProcessTimes], str, int | None], Iterator[ProcessTimes]]
Spawn = Callable[[Job, Sequence[int], int], Iterator[ProcessTimes]]


@dataclass(frozen=True)
class Protocol:
    """How many processes are run. All of it is fixed before the first one.

    Args:
        processes: in the first look.
        extension: more of them in the second look, when the first leaves the verdict open.
        crowded: how many processes may find the machine crowded, in either look, before it is given up.
    """

    processes: int = 5
    extension: int = 10
    crowded: int = 2


PROTOCOL = Protocol()


@dataclass(frozen=True)
class LatencySamples:
    """All that was timed of one int8 model against fp32.

    Raises MeasurementError when a process has no pairs, incomplete ones, or times that are no positive numbers.
    """

    processes: tuple[Pairs, ...]
    threads: int
    control: tuple[Pairs, ...] = ()
    """fp32 against itself, in the same processes."""
    looks: int = 1
    probe_us: float = 0.0
    exchange_us: float = 0.0
    timed_by: Mapping[str, str] = field(default_factory=dict)
    """Details that tell by which kernels either model ran."""
    other_load: float = 0.0
    steal: float = 0.0
    unfit: str = ""
    """Why nothing can be judged by these times; empty when they are sound."""

    def __post_init__(self) -> None:
        for pairs in (*self.processes, *self.control):
            times = (*pairs.reference_ms, *pairs.variant_ms)
            if not pairs.reference_ms or len(pairs.reference_ms) != len(pairs.variant_ms):
                raise MeasurementError("latency samples of fp32 and int8 do not come in pairs")
            if not all(math.isfinite(ms) and ms > 0 for ms in times):
                raise MeasurementError("a latency sample is not a positive number", remedy="Check the clock.")

    @property
    def fp32_ms(self) -> tuple[float, ...]:
        """Of all processes, in the order of measuring."""
        return tuple(ms for pairs in self.processes for ms in pairs.reference_ms)

    @property
    def int8_ms(self) -> tuple[float, ...]:
        return tuple(ms for pairs in self.processes for ms in pairs.variant_ms)

    @property
    def log_ratio(self) -> Mean:
        """log(int8 / fp32): the mean over processes of each one's median."""
        return mean_of([median_log_ratio(pairs) for pairs in self.processes])

    @property
    def control_log_ratio(self) -> Mean | None:
        """log(fp32 / fp32), which is 0 but for noise."""
        return mean_of([median_log_ratio(pairs) for pairs in self.control]) if self.control else None

    @property
    def drift(self) -> Mean:
        """How far the log ratio moved from the first third of a process to the last: warm-up, were it not over."""
        return mean_of([_moved(pairs) for pairs in self.processes])

    @property
    def moved(self) -> float:
        """The drift, where it is more than 5 % and surely no chance; else 0. The ratio is known no better than that."""
        return self.drift.value if _beyond(self.drift, DRIFT_OFF) else 0.0


def log_ratios(pairs: Pairs) -> list[float]:
    """log(variant / reference) of each pair: of logs, so that fp32/int8 would give the same answer."""
    return [math.log(v / r) for r, v in zip(pairs.reference_ms, pairs.variant_ms, strict=True)]


def median_log_ratio(pairs: Pairs) -> float:
    """The median, because slow outliers say more about the machine than about the model."""
    return median(log_ratios(pairs))


def _moved(pairs: Pairs) -> float:
    ratios = log_ratios(pairs)
    third = max(1, len(ratios) // 3)
    return median(ratios[-third:]) - median(ratios[:third])


class Latency:
    """Measures int8 models against one fp32, and remembers what it measured.

    Args:
        job: the models, stored, and how they are to be run.
        protocol: how many processes.
        progress: shows processes going by.
        spawn: runs processes; `run_processes` unless for a test.
    """

    def __init__(
        self,
        job: Job,
        protocol: Protocol = PROTOCOL,
        progress: Progress = lambda items, title, total: iter(items),
        spawn: Spawn | None = None,
    ) -> None:
        self._job, self._protocol, self._progress = job, protocol, progress
        self._spawn: Spawn = spawn or _spawn
        self._times: dict[str, list[ProcessTimes]] = {}
        self._looks: dict[str, int] = {}
        self._gave_up: dict[str, bool] = {}
        self._seed = 0

    def add(self, name: str, model: Model) -> None:
        """Make known another int8 model, to be measured when asked for."""
        self._job = replace(self._job, models={**self._job.models, name: model})

    def samples(self, name: str, together: Iterable[str] = ()) -> LatencySamples:
        """Those of one model; measured now, with the models of `together`, unless that has been done.

        Raises MeasurementError when a process fails.
        """
        if name not in self._times:
            due = [n for n in dict.fromkeys((name, *together)) if n not in self._times]
            self._look(due, self._protocol.processes)
        return self._samples(name)

    def can_extend(self, name: str) -> bool:
        """Whether a second look is left: there is one, and none on a machine that is not free."""
        return self._looks.get(name, 0) == 1 and not self._gave_up[name] and self._protocol.extension > 0

    def extend(self, name: str) -> LatencySamples:
        """Take the second look at one model."""
        self._look([name], self._protocol.extension)
        return self._samples(name)

    def _look(self, names: Sequence[str], count: int) -> None:
        files = {n: content for n, content in self._job.models.items() if n in names or n == REFERENCE}
        job = replace(self._job, models=files)
        crowded: list[ProcessTimes] = []
        found = list(self._progress(self._quiet(job, count, crowded), f"latency of {', '.join(names)}", count))
        for name in names:
            gave_up = len(found) < count
            self._gave_up[name] = gave_up
            self._looks[name] = self._looks.get(name, 0) + 1
            self._times.setdefault(name, []).extend([*found, *crowded] if gave_up else found)

    def _quiet(self, job: Job, count: int, crowded: list[ProcessTimes]) -> Iterator[ProcessTimes]:
        """Up to `count` processes that had the machine to themselves; the others go to `crowded`."""
        left = count
        while left:
            seeds = range(self._seed, self._seed + left)
            self._seed += left
            for times in self._spawn(job, seeds, _loaders()):
                if not times.crowded:
                    left -= 1
                    yield times
                    continue
                crowded.append(times)
                if len(crowded) > self._protocol.crowded:
                    return

    def _samples(self, name: str) -> LatencySamples:
        times = self._times[name]
        samples = LatencySamples(
            processes=tuple(t.pairs[name] for t in times),
            threads=self._job.threads,
            control=tuple(t.pairs[CONTROL] for t in times),
            looks=self._looks[name],
            probe_us=median(t.probe_us for t in times),
            exchange_us=median(t.exchange_us for t in times),
            timed_by=timed_by(name, REFERENCE, [(t.kernels, t.not_native) for t in times]),
            other_load=median(t.load.other or 0.0 for t in times),
            steal=median(t.load.steal or 0.0 for t in times),
        )
        return replace(samples, unfit=why_unfit(samples, gave_up=self._gave_up[name]))


CONTROL_OFF = 0.03
"""fp32 that differs from itself by more than this, and surely, means that nothing else can be told either."""
DRIFT_OFF = 0.05
"""A ratio that moved by more than this within the processes, and surely, had not settled."""
SURELY = 0.99


def why_unfit(samples: LatencySamples, *, gave_up: bool) -> str:
    """A clause, empty when nothing speaks against judging by these samples."""
    if gave_up:
        taken = f"other programs used {100 * samples.other_load:.0f} % of the CPUs"
        return taken + (f" and the host took {100 * samples.steal:.0f} %" if samples.steal >= 0.01 else "")
    control = samples.control_log_ratio
    if control is not None and _beyond(control, CONTROL_OFF):
        return f"fp32 timed against itself came out as {math.exp(control.value):.3f}"
    return ""


def _beyond(mean: Mean, bound: float) -> bool:
    low, high = mean.interval(SURELY)
    return abs(mean.value) > bound and (low > 0 or high < 0)


def noise_floor(samples: LatencySamples) -> float | None:
    """What fp32 against itself may differ by, as a share: the farther end of its 95 % interval; None if unknown."""
    control = samples.control_log_ratio
    if control is None or control.count < 2:
        return None
    return math.expm1(max(map(abs, control.interval())))


def _loaders() -> int:
    """How many processes may load at once: as many as have a CPU, within reason for memory."""
    return max(1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 4))


def _spawn(job: Job, seeds: Sequence[int], at_once: int) -> Iterator[ProcessTimes]:
    return run_processes(job, seeds, at_once=at_once)
