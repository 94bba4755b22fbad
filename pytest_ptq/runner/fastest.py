"""Which runtime a model is fastest in: measured, int8 against int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pytest_ptq.errors import MeasurementError, PTQError
from pytest_ptq.measure.processes import REFERENCE, Job
from pytest_ptq.measure.turns import ROUNDS, time_in_turn
from pytest_ptq.qconfig import RUNTIMES, QConfig

if TYPE_CHECKING:
    from pytest_ptq.runner.exported import Exported
    from pytest_ptq.runner.models import SuiteModels


EQUAL = 1.05
"""By how much the median of a runtime may exceed the smallest and yet be as fast: what is farther off never is,
however the processes of a busy machine scatter."""


@dataclass(frozen=True)
class Fastest:
    """What was measured to choose by.

    Args:
        times: milliseconds of the int8 model in each process by runtime, of each that runs it, in the order of the
            table.
        failed: why the others do not.
    """

    times: Mapping[str, Sequence[float]]
    failed: Mapping[str, str]

    @property
    def ms(self) -> Mapping[str, float]:
        """Median milliseconds by runtime."""
        return {name: median(times) for name, times in self.times.items()}

    @property
    def runtime(self) -> str:
        """The fastest. Of those that this measurement cannot tell from it, the first in the table."""
        ms = self.ms
        best = min(ms, key=lambda name: ms[name])
        slowest = max(self.times[best])
        return next(name for name in ms if ms[name] <= EQUAL * ms[best] and min(self.times[name]) <= slowest)


def find_fastest(models: SuiteModels, files_of: Callable[[str], Exported], qconfig: QConfig) -> Fastest:
    """Measure the int8 model of `qconfig` in every runtime.

    A runtime that is not installed, or refuses the model, takes no part; the others go on.

    Args:
        models: of the suite; shows processes going by.
        files_of: the exported models for a runtime other than torch.
        qconfig: its runtime does not matter.

    Raises:
        PTQError: what the first runtime says, where none runs the model.
    """
    jobs: dict[str, Job] = {}
    errors: dict[str, PTQError] = {}
    for name in RUNTIMES:
        try:
            jobs[name] = _job(models, files_of, qconfig, name)
        except PTQError as error:
            errors[name] = error
    times: dict[str, list[float]] = {name: [] for name in jobs}
    title = f"int8 latency of {qconfig.name} in {', '.join(jobs)}"
    for name, found in models.progress(time_in_turn(jobs), title, ROUNDS * len(jobs)):
        if isinstance(found, MeasurementError):
            errors[name] = found
        else:
            times[name].append(found)
    whole = {name: values for name, values in times.items() if values and name not in errors}
    if not whole:
        raise next(iter(errors.values()))
    return Fastest(whole, {name: str(error) for name, error in errors.items()})


def _job(models: SuiteModels, files_of: Callable[[str], Exported], qconfig: QConfig, runtime: str) -> Job:
    """What times the int8 model in one runtime. Raises InstallationError, ExportError, and what quantizing raises."""
    from pytest_ptq.engine.artifact import to_bytes

    model: bytes | Path
    if runtime == RUNTIMES[0]:
        model = to_bytes(models.quantized(qconfig))
    else:
        files = files_of(runtime)
        model = files.int8(qconfig, files.timed)
    return Job({REFERENCE: model}, models.suite.latency_shape, models.threads, runtime=runtime)
