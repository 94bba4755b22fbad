"""At which speed a machine ran while a latency was measured, and whether that is the speed of another measurement.

Virtual machines change speed behind one's back, for seconds to minutes, in two ways: the clock (or whoever shares the
core) changes, which plain Python feels; or the host moves a CPU away from its neighbour, which only data feels that go
from one core to another. int8 and fp32 feel either unequally, so that their ratio moves with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_ptq.metrics import EXCHANGE, LATENCY_RATIO, PROBE, Measurement


@dataclass(frozen=True)
class Speed:
    """One thing that is timed to know the speed of a machine.

    Args:
        detail: under which the microseconds stand, among the details of a measurement.
        same: one that takes longer or shorter by more than this factor is another speed.
        power: int8/fp32 moves by no more than the change of the speed to this power.
        does: what takes the time, after "the machine".
        at: a name for one speed of it.
    """

    detail: str
    same: float
    power: float
    does: str
    at: str


CLOCK = Speed(PROBE, 1.25, 1.0, "runs plain Python", "plain Python")
CORES = Speed(EXCHANGE, 1.5, 0.25, "hands data from core to core", "core to core")
SPEEDS = (CLOCK, CORES)
"""`same`: bursts of other work lengthen the first by less than a quarter and the second by less than a half.
`power`: neither model can be slowed by more than what is timed alone, which bounds the ratio; of the second, only what
nine models showed: at most 1.18 where it changed 2.75 times. Measured: docs/gates.md."""


@dataclass(frozen=True)
class SpeedChange:
    """One speed that differs between two measurements, in microseconds of what was timed."""

    speed: Speed
    now_us: float
    then_us: float

    @property
    def factor(self) -> float:
        """How many times it changed, in either direction: 1 or more."""
        return max(self.now_us / self.then_us, self.then_us / self.now_us)

    def __str__(self) -> str:
        return f"the machine {self.speed.does} in {self.now_us:.3g} us and did in {self.then_us:.3g} us then"


def speed_changes(now: Measurement, then: Measurement) -> tuple[SpeedChange, ...]:
    """What differs in speed between two measurements; what one of them does not tell does not."""
    found = (SpeedChange(speed, *both) for speed in SPEEDS if (both := _both(speed, now, then)) is not None)
    return tuple(change for change in found if change.factor > change.speed.same)


def sway(measurement: Measurement, changes: tuple[SpeedChange, ...]) -> float:
    """By which factor the changes of speed alone may have moved a latency, in either direction: 1 or more.

    A time may follow what changed all the way.
    """
    is_ratio = measurement.metric.key == LATENCY_RATIO.key
    return math.exp(sum(math.log(change.factor) * (change.speed.power if is_ratio else 1.0) for change in changes))


def distance(now: Measurement, then: Measurement) -> float:
    """How far apart the speeds of two measurements are: 0 where they are the same, or not known."""
    both = (_both(speed, now, then) for speed in SPEEDS)
    return sum(abs(math.log(pair[0] / pair[1])) for pair in both if pair is not None)


def speed_text(details: Mapping[str, object]) -> str:
    """`plain Python 80 us, core to core 4.3 us`; empty where nothing is known."""
    known = ((speed.at, details.get(speed.detail)) for speed in SPEEDS)
    return ", ".join(f"{at} {us:.3g} us" for at, us in known if isinstance(us, float | int))


def _both(speed: Speed, now: Measurement, then: Measurement) -> tuple[float, float] | None:
    a, b = now.details.get(speed.detail), then.details.get(speed.detail)
    if isinstance(a, float | int) and isinstance(b, float | int) and a > 0 and b > 0:
        return float(a), float(b)
    return None
