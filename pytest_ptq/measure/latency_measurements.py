"""Latency samples -> measurements: milliseconds, the ratio int8/fp32 with its interval, and what speaks against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from pytest_ptq.measure.latency import LatencySamples, noise_floor
from pytest_ptq.measure.pairs import Pairs
from pytest_ptq.metrics import (
    EXCHANGE,
    LATENCY_EAGER,
    LATENCY_FP32,
    LATENCY_INT8,
    LATENCY_RATIO,
    LOOKS,
    MOVED,
    NOISE_FLOOR,
    PROBE,
    PROCESSES,
    STANDARD_ERROR,
    UNFIT,
    Measurement,
    Metric,
)
from pytest_ptq.student import Mean, mean_of

Details = dict[str, float | int | str]


def to_measurements(samples: LatencySamples) -> dict[str, Measurement]:
    """Median latencies in ms and the ratio int8/fp32, keyed by metric, with 95 % intervals across processes.

    The ratio is exp(mean over processes of the median log ratio of their pairs). Without an interval when there is
    only one process.
    """
    ratio = samples.log_ratio
    low, high = _ends(ratio, abs(samples.moved) / 2, shown_coverage(samples.looks))
    fp32 = [pairs.reference_ms for pairs in samples.processes]
    int8 = [pairs.variant_ms for pairs in samples.processes]
    measured = Measurement(
        LATENCY_RATIO, math.exp(ratio.value), low, high, samples=_count(fp32), details=_details(samples)
    )
    return {
        LATENCY_FP32.key: _median_ms(LATENCY_FP32, fp32, samples),
        LATENCY_INT8.key: _median_ms(LATENCY_INT8, int8, samples),
        LATENCY_RATIO.key: measured,
    }


def eager(times_ms: tuple[float, ...]) -> dict[str, Measurement]:
    """The median of the plain eager model's times, keyed by metric; nothing is judged by it."""
    return {LATENCY_EAGER.key: Measurement(LATENCY_EAGER, median(times_ms), samples=len(times_ms))}


def _median_ms(metric: Metric, times: Sequence[tuple[float, ...]], samples: LatencySamples) -> Measurement:
    """The geometric mean over processes of their medians, and its interval."""
    logs = mean_of([math.log(median(process)) for process in times])
    low, high = _ends(logs)
    details: Details = {PROCESSES: logs.count, **_speeds(samples)}
    return Measurement(metric, math.exp(logs.value), low, high, samples=_count(times), details=details)


def shown_coverage(looks: int) -> float:
    """What the interval has to cover by itself so that, over all that is reported, it covers 95 %.

    A second look is taken when the first left something open, which happens more often when the first was off: after
    it, half of the chance of error has been spent. Simulated in docs/gates.md.
    """
    return 0.95 if looks == 1 else 0.975


def _ends(mean: Mean, slack: float = 0.0, coverage: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """The interval of what `mean` is the mean log of, `slack` wider at either end; one value has none."""
    if mean.count < 2:
        return None, None
    low, high = mean.interval(coverage)
    return math.exp(low - slack), math.exp(high + slack)


def _count(times: Sequence[tuple[float, ...]]) -> int:
    return sum(map(len, times))


def _details(samples: LatencySamples) -> Details:
    ratio, control, drift = samples.log_ratio, samples.control_log_ratio, samples.drift
    details: Details = {PROCESSES: ratio.count, LOOKS: samples.looks, "threads": samples.threads}
    if ratio.count > 1:
        details[STANDARD_ERROR] = ratio.standard_error
    floor = noise_floor(samples)
    if control is not None and floor is not None:
        details["fp32_against_itself"] = math.exp(control.value)
        details[NOISE_FLOOR] = 100 * floor
    details["drift_percent"] = 100 * math.expm1(drift.value)
    if samples.moved:
        details[MOVED] = samples.moved
    details["other_load_percent"] = 100 * samples.other_load
    details["steal_percent"] = 100 * samples.steal
    details |= {**_speeds(samples), **samples.timed_by}
    if samples.unfit:
        details[UNFIT] = samples.unfit
    return details


def _speeds(samples: LatencySamples) -> Details:
    """How fast the machine ran, as far as that was timed."""
    return {key: us for key, us in ((PROBE, samples.probe_us), (EXCHANGE, samples.exchange_us)) if us > 0}


def one_process(pairs: Pairs, threads: int, why: str, kernels: Mapping[str, str] | None = None) -> LatencySamples:
    """Samples of a model that no other process could be given: nothing is judged by them. kernels: see `timed_by`."""
    unfit = f"it was timed in one process only, because {why}"
    return LatencySamples((pairs,), threads, timed_by=kernels or {}, unfit=unfit)
