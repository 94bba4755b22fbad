"""The arithmetic limit: how fast VNNI multiplies when nothing is read and nothing is written."""

from __future__ import annotations

from pytest_ptq.engine.kernels.native import library

MACS_A_ROUND = 16 * 64


def multiply(rounds: int, threads: int) -> int:
    """Multiply on registers, on `threads` threads at once; how many multiply-accumulates that were.

    Raises:
        UnavailableError: this machine has no compiled kernels.
    """
    library.load().ptq_multiply(rounds, threads)
    return rounds * threads * MACS_A_ROUND
