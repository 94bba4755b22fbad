"""How long data take from core to core."""

from __future__ import annotations

import pytest
import torch

from pytest_ptq.measure import exchange
from pytest_ptq.measure.conditions import pinned_threads


def test_two_threads_hand_something_over_and_one_has_nobody_to_hand_it_to() -> None:
    with pinned_threads(2):
        assert 0 < exchange.exchange_us(2) < 1e6
    assert exchange.exchange_us(1) == 0


@pytest.mark.parametrize("threads", [2, 3])
def test_every_thread_takes_over_what_its_neighbour_wrote(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Chunks are shared out in order, so that one call begins a chunk later than the other."""
    data = torch.ones((threads + 1) * exchange.CHUNK, dtype=torch.uint8)
    monkeypatch.setattr(torch, "ones", lambda count, dtype: data if count == len(data) else None)
    monkeypatch.setattr(exchange, "COLD", 0)
    monkeypatch.setattr(exchange, "TIMES", 1)
    exchange.exchange_us(threads)
    # Once negated, 1 is 255 in a byte; twice, it is 1 again.
    assert [set(chunk.tolist()) for chunk in data.split(exchange.CHUNK)] == [{255}, *[{1}] * (threads - 1), {255}]
