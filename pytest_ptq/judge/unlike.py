"""What sets a latency apart from the one that was recorded, though the machine's key is the same: speed and kernels."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_ptq.judge.intervals import BY_INTERVAL
from pytest_ptq.metrics import TIMED_BY, TIMED_NOT_NATIVE, Measurement
from pytest_ptq.speeds import SpeedChange, speed_changes, sway

RECORD_BOTH = "run again, or record this speed beside the other with --ptq-update-baseline new"
RECORD_ANEW = "if that is to stay, record it with --ptq-update-baseline all"


@dataclass(frozen=True)
class Unlike:
    """How two latencies were not measured alike.

    Args:
        speeds: what the machine did at another speed.
        factor: by which that alone may have moved the value, up or down.
        int8, fp32: by which other kernels the model was timed, a clause; empty where they are the same. int8's are
            what a user of the model meets, and judged. fp32 is what int8 is held against: beside another one, only a
            value that is worse says something.
    """

    speeds: tuple[SpeedChange, ...] = ()
    factor: float = 1.0
    int8: str = ""
    fp32: str = ""

    def __str__(self) -> str:
        """The end of a sentence; empty where all is alike."""
        ran = [str(change) for change in self.speeds]
        told = [f"{' and '.join(ran)}, which alone may move it {self.factor:.2f} times at most"] if ran else []
        return "".join(f"; {clause}" for clause in (*told, self.int8, self.fp32) if clause)

    @property
    def remedy(self) -> str:
        """What to do about it, behind `__str__`; empty where all is alike."""
        if self.speeds:
            return f": {RECORD_BOTH}"
        return f": {RECORD_ANEW}" if self.int8 or self.fp32 else ""


def unlike(now: Measurement, then: Measurement) -> Unlike:
    """What is known to differ; nothing for a metric that does not vary from run to run."""
    if now.metric.key not in BY_INTERVAL:
        return Unlike()
    changes = speed_changes(now, then)
    return Unlike(changes, sway(now, changes), _kernels("int8", now, then), _kernels("fp32", now, then))


def _kernels(precision: str, now: Measurement, then: Measurement) -> str:
    here, there = (str(found.details.get(TIMED_BY[precision], "")) for found in (now, then))
    if not here or not there or here == there:
        return ""
    why = now.details.get(TIMED_NOT_NATIVE[precision])
    because = f" (no compiled kernels: {why})" if why else ""
    return f"{precision} ran by {here}{because} and did by {there} then"
