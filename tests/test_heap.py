"""Memory that is kept between batches: fewer page faults inside, and nothing held back afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_ptq import heap

COUNT = """
import resource, torch
from pytest_ptq.heap import kept_heap

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

def batches(count):
    before = faults()
    for _ in range(count):
        a = torch.ones(16 << 20)  # 64 MiB, which is mapped
        b = a + 1
        del a, b
    return faults() - before

batches(2)
usual, small = batches(4), held()
with kept_heap():
    with kept_heap():
        batches(6)
    kept, large = batches(4), held()
print(usual, kept, large - small, held() - small, batches(4))
"""


@pytest.mark.skipif(heap._libc() is None, reason="glibc's malloc is what is told")
def test_a_batch_finds_its_memory_where_the_last_one_left_it() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=120, check=True)
    usual, kept, while_kept, afterwards, again = map(int, done.stdout.split())
    assert usual > 4 * 64, "two blocks of 64 MiB, in large pages at the most"
    # A hole that another block left may cost one of the eight blocks its place.
    assert kept < usual / 4
    assert while_kept >= 100, "MiB"
    assert afterwards < 20, "what was kept has gone back"
    assert again > usual / 2, "and is asked for as before"


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_libc", lambda: None)
    with heap.kept_heap():
        assert heap._depth == 0


def test_a_failure_ends_it_too() -> None:
    with pytest.raises(KeyError), heap.kept_heap():
        raise KeyError
    assert heap._depth == 0
