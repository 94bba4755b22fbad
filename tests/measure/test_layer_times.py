"""Layer by layer: what is called, what comes out, and whose time is whose. Never how long it really takes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, fx, nn

from pytest_ptq.errors import UsageError
from pytest_ptq.measure.layer_times import WARMUP, called_kernels, time_layers


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)
        self.offset = nn.Parameter(torch.ones(8))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.layer(x)) + self.offset
        left, _ = y.split(4, 1)
        return left.flatten(1)


X = torch.ones(2, 4)


def traced() -> fx.GraphModule:
    return fx.symbolic_trace(Model())


def test_every_call_in_the_order_of_the_graph() -> None:
    found = time_layers(traced(), X, threads=1, repeats=2)
    assert [n.name for n in found.nodes] == ["layer", "relu", "add", "split", "getitem", "getitem_1", "flatten"]
    by_name = {n.name: n for n in found.nodes}
    assert by_name["layer"].kernels == ("linear",)
    assert by_name["relu"].kernels == ("relu",)
    assert by_name["getitem"].kernels == () == by_name["flatten"].kernels, "a view computes nothing"
    assert by_name["layer"].shape == (2, 8)
    assert by_name["split"].shape == ()


def test_a_time_belongs_to_its_layer_and_is_the_median() -> None:
    # Each pass reads the clock: start, middle, twice for each of seven calls, end. The whole model takes 5 s, the
    # calls 1 s to 7 s, and everything is slower by the number of the pass: 0, 10 and 80 s after the warm-up.
    def ticks() -> Iterator[float]:
        now = 0.0
        for slower in (*[500.0] * WARMUP, 0.0, 10.0, 80.0):
            yield now
            now += 5 + slower
            yield now
            for call in range(1, 8):
                yield now
                now += call + slower
                yield now
            now += 100
            yield now

    clock = ticks()
    found = time_layers(traced(), X, threads=1, repeats=3, clock=lambda: next(clock))
    assert next(clock, None) is None, "every reading has its place"
    assert found.whole_ms == 15_000
    assert [n.ms for n in found.nodes] == [1000.0 * (call + 10) for call in range(1, 8)]
    assert [n.best_ms for n in found.nodes] == [1000.0 * call for call in range(1, 8)]
    assert found.walk_ms == 1000.0 * (sum(range(1, 8)) + 70 + 100)


def test_values_are_let_go_when_nobody_reads_them_any_more() -> None:
    model = fx.symbolic_trace(nn.Sequential(*[nn.ReLU() for _ in range(6)]))
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def note(layer: nn.Module, args: object, output: Tensor) -> None:
        made.append(weakref.ref(output))
        alive.append(sum(value() is not None for value in made))

    for layer in model.children():
        layer.register_forward_hook(note)
    time_layers(model, X, threads=1, repeats=1)
    assert max(alive) == 2, "what a layer reads and what it writes"


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    time_layers(traced(), X, threads=before + 1, repeats=1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("threads", "repeats"), [(0, 1), (1, 0)])
def test_nothing_cannot_be_timed(threads: int, repeats: int) -> None:
    with pytest.raises(UsageError, match="nothing can be timed"):
        time_layers(traced(), X, threads=threads, repeats=repeats)


def test_kernels_are_named_with_their_copies() -> None:
    value, kernels = called_kernels(lambda: X.t().contiguous().view(-1) * 2)
    assert torch.equal(value, torch.full((8,), 2.0))
    assert kernels == ("clone", "mul")
