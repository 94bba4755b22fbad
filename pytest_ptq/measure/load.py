"""What else ran on the CPUs while something was measured: other programs, and the host that took time away."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6)
"""Columns of /proc/stat that count work done here: user, nice, system, irq, softirq. Source: proc_stat(5)."""
_STEAL = 7


@dataclass(frozen=True)
class Load:
    """Shares of the CPU time that this process could have had, between 0 and 1; None where the system does not say."""

    other: float | None = None
    """Spent on other processes."""
    steal: float | None = None
    """Taken by the host for other virtual machines."""

    @property
    def taken(self) -> float:
        """Both together; 0 where nothing is known."""
        return (self.other or 0.0) + (self.steal or 0.0)


class LoadMeter:
    """Reads the system's counters now, and again when asked for the load since."""

    def __init__(self) -> None:
        self._cpus = _usable_cpus()
        self._start = self._now()

    def load(self) -> Load:
        before, after = self._start, self._now()
        if before is None or after is None:
            return Load()
        wall = (after[0] - before[0]) * len(self._cpus)
        if wall <= 0:
            return Load()
        busy, steal, own = (after[i] - before[i] for i in (1, 2, 3))
        # Ticks are counted in hundredths of a second, own time in nanoseconds: a short time may seem negative.
        return Load(other=_share((busy - own) / wall), steal=_share(steal / wall))

    def _now(self) -> tuple[float, float, float, float] | None:
        """(wall, busy, steal, own) in seconds, the first and last of arbitrary origin."""
        try:
            text = PROC_STAT.read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        ticks = os.sysconf("SC_CLK_TCK")
        busy = steal = 0.0
        for cpu, columns in _per_cpu(text):
            if cpu in self._cpus:
                busy += sum(columns[i] for i in _BUSY) / ticks
                steal += columns[_STEAL] / ticks if len(columns) > _STEAL else 0.0
        return time.perf_counter(), busy, steal, time.process_time()


def _usable_cpus() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _per_cpu(text: str) -> list[tuple[int, list[int]]]:
    found = []
    for line in text.splitlines():
        name, *columns = line.split()
        if name.startswith("cpu") and name[3:].isdecimal() and all(map(str.isdecimal, columns)):
            found.append((int(name[3:]), list(map(int, columns))))
    return found


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
