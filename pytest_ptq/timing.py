"""Models -> latency samples: each model is stored once, and timed by fresh processes that read it back.

What is timed is thus what a user gets who loads the saved model. A model that cannot be stored is timed in this
process, and its times say so: they are shown, and nothing is judged by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import StoreError
from pytest_ptq.measure.latency import PROTOCOL, Latency, LatencySamples, Protocol
from pytest_ptq.measure.latency_measurements import one_process
from pytest_ptq.measure.pairs import PACE, Pace, time_alone, time_pairs
from pytest_ptq.measure.processes import REFERENCE, Job, Stored
from pytest_ptq.measure.timed_by import kernels_of, timed_by
from pytest_ptq.runtimes import Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pytest_ptq.engine.fuse import FusedModule
    from pytest_ptq.engine.graph import StageModule


class Timing:
    """Times int8 models against the frozen form of one fused model.

    Args:
        fused: what fp32 is made from.
        shape: of the input, which is random.
        threads: threads to compute with.
        progress: shows processes going by.
    """

    def __init__(
        self,
        fused: FusedModule,
        shape: tuple[int, ...],
        threads: int,
        progress: Any,
        pace: Pace = PACE,
        protocol: Protocol = PROTOCOL,
    ) -> None:
        self._fused, self._shape, self._threads, self._progress = fused, shape, threads, progress
        self._pace, self._protocol = pace, protocol
        self._made: dict[str, Callable[[], Any]] = {}
        self._refused: dict[str, str] = {}
        self._here: dict[str, LatencySamples] = {}

    def add(self, name: str, make: Callable[[], StageModule]) -> None:
        """Store an int8 model under `name`, unless that has been done. Raises what `make` raises."""
        if name in self._made:
            return
        model = make()
        self._made[name] = make
        try:
            self._latency.add(name, _stored(model))
        except StoreError as error:
            self._refused[name] = error.message

    def add_file(self, name: str, path: Path) -> None:
        """Make known a model of somebody else's, in a file that torch reads."""
        if name not in self._made:
            self._made[name] = lambda: path
            self._latency.add(name, path)

    def add_here(self, name: str, make: Callable[[], Callable[[Any], Any]], why: str) -> None:
        """Make known a model that only this process has. `why`: it cannot be stored, a clause."""
        self._made.setdefault(name, make)
        self._refused.setdefault(name, why)

    def samples(self, name: str, together: Iterable[str] = ()) -> LatencySamples:
        """Samples of one model, measured with those of `together` unless that has been done."""
        if name not in self._refused:
            return self._latency.samples(name, [other for other in together if other not in self._refused])
        if name not in self._here:
            self._here[name] = self._measure_here(name)
        return self._here[name]

    def can_extend(self, name: str) -> bool:
        return name not in self._refused and self._latency.can_extend(name)

    def extend(self, name: str) -> LatencySamples:
        return self._latency.extend(name)

    def alone(self, model: nn.Module) -> tuple[float, ...]:
        """Milliseconds of each run of some model by itself, in this process."""
        return time_alone(model, self._example(), threads=self._threads, pace=self._pace)

    @cached_property
    def _latency(self) -> Latency:
        """Raises StoreError when even fp32 cannot be stored: then none of its int8 models can."""
        models = {REFERENCE: _stored(self._fused)}
        return Latency(Job(models, self._shape, self._threads, self._pace), self._protocol, self._progress)

    def _measure_here(self, name: str) -> LatencySamples:
        from pytest_ptq.engine import freeze
        from pytest_ptq.engine.deployment import called_as_deployed

        example = self._example()
        variants = {name: called_as_deployed(self._made[name](), example)}
        fp32 = called_as_deployed(freeze(self._fused), example)
        times = time_pairs(
            fp32,
            variants,
            example,
            threads=self._threads,
            seed=0,
            pace=self._pace,
        )
        ran = timed_by(name, REFERENCE, [kernels_of({**variants, REFERENCE: fp32})])
        why = f"it cannot be stored ({self._refused[name]})"
        return one_process(times.pairs[name], self._threads, why, ran)

    def _example(self) -> Tensor:
        import torch

        return torch.rand(self._shape, generator=torch.Generator().manual_seed(0))


class FileTiming:
    """Times files of one runtime against an fp32 file of the same.

    Each runtime has a thread pool of its own, which disturbs those of others: they are timed in processes of their own.

    Args:
        runtime: which runs them.
        fp32: writes the fp32 model, the first time that anything is timed.
        shape: of the input, which is random.
        threads: threads to compute with.
        progress: shows processes going by.
    """

    def __init__(
        self,
        runtime: Runtime,
        fp32: Callable[[], Path],
        shape: tuple[int, ...],
        threads: int,
        progress: Any,
        pace: Pace = PACE,
        protocol: Protocol = PROTOCOL,
    ) -> None:
        self._runtime, self._fp32, self._shape, self._threads = runtime, fp32, shape, threads
        self._progress, self._pace, self._protocol = progress, pace, protocol
        self._added: set[str] = set()

    def add(self, name: str, write: Callable[[], Path]) -> None:
        """Make known an int8 model under `name`, unless that has been done. Raises what `write` and `fp32` raise."""
        if name not in self._added:
            self._latency.add(name, write())
            self._added.add(name)

    def samples(self, name: str, together: Iterable[str] = ()) -> LatencySamples:
        """Samples of one model, measured with those of `together` unless that has been done."""
        return self._latency.samples(name, together)

    def can_extend(self, name: str) -> bool:
        return self._latency.can_extend(name)

    def extend(self, name: str) -> LatencySamples:
        return self._latency.extend(name)

    @cached_property
    def _latency(self) -> Latency:
        job = Job({REFERENCE: self._fp32()}, self._shape, self._threads, self._pace, self._runtime.name)
        return Latency(job, self._protocol, self._progress)


def _stored(model: StageModule) -> Stored:
    from pytest_ptq.engine.artifact import to_parts

    return Stored(to_parts(model))
