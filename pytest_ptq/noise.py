"""A/A on this machine: how far a latency may be off though nothing changed, and what tolerance follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_ptq.errors import MeasurementError
from pytest_ptq.qconfig import QConfig
from pytest_ptq.runner import SuiteRun
from pytest_ptq.student import Mean, t_quantile

CONFIDENCE = 0.975
"""Of the interval that a verdict of the first look goes by: judge.intervals."""
STEP = 0.01
"""A tolerance is rounded up to whole percents: a finer one would pretend to know."""


@dataclass(frozen=True)
class Noise:
    """What was found. Ratios come with their 95 % interval; `floor`, `spread`, `reach` and `tolerance` are shares.

    Args:
        control: fp32 against itself, 1 but for noise.
        floor: the farther end of its interval: what nothing smaller can be told from.
        ratio: int8 against fp32.
        spread: standard deviation of that ratio from process to process.
        reach: how far a first look of five processes may be off.
        tolerance: the least that a first look can usually decide on.
        unfit: why nothing of this can be believed; empty when nothing speaks against it.
    """

    processes: int
    control: float
    control_low: float
    control_high: float
    floor: float
    ratio: float
    ratio_low: float
    ratio_high: float
    spread: float
    reach: float
    tolerance: float
    unfit: str = ""


def find_noise(run: SuiteRun, qconfig: QConfig) -> Noise:
    """Measure as a run does that records a baseline: both looks, with fp32 against itself in every process.

    Raises MeasurementError where there is but one process, and what making and timing the models raises.
    """
    from pytest_ptq.measure.latency import PROTOCOL, noise_floor

    samples = run.latency_samples(qconfig)
    if run.extend_latency(qconfig):
        samples = run.latency_samples(qconfig)
    control, ratio, floor = samples.control_log_ratio, samples.log_ratio, noise_floor(samples)
    if control is None or floor is None or ratio.count < 2:
        why = samples.unfit or "it was timed in one process only"
        raise MeasurementError(f"nothing can be told of this machine's noise: {why}", place=run.suite.name)
    spread = ratio.standard_error * math.sqrt(ratio.count)
    reach = t_quantile(0.5 + CONFIDENCE / 2, PROTOCOL.processes - 1) * spread / math.sqrt(PROTOCOL.processes)
    return Noise(
        ratio.count,
        *_shown(control),
        floor,
        *_shown(ratio),
        math.expm1(spread),
        math.expm1(reach),
        suggested(floor, math.expm1(reach)),
        samples.unfit,
    )


def suggested(floor: float, reach: float) -> float:
    """The larger of the two, rounded up to a whole percent."""
    return max(1, math.ceil(max(floor, reach) / STEP - 1e-9)) / round(1 / STEP)


def _shown(mean: Mean) -> tuple[float, float, float]:
    low, high = mean.interval()
    return math.exp(mean.value), math.exp(low), math.exp(high)
