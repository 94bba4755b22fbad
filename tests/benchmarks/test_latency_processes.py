"""Engines in processes that stay alive: their turns are collected, and how they fail becomes a row."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import fake_latency
import pytest

from benchmarks import latency_crew
from benchmarks.latency_crew import Plan, measure, wait_until_idle
from benchmarks.latency_rows import Engine
from benchmarks.latency_worker import Pace, Turn, time_turn
from benchmarks.turns import Turns
from pytest_ptq.errors import MeasurementError

ROUNDS = 3
QUICK = Pace(warmup_s=0.0, timed_s=0.0, fewest=3)


@pytest.fixture(scope="module")
def found() -> Mapping[str, Engine]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile() as log:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.delenv("PTQ_RIVALS_PYTHON", raising=False)
        plan = Plan("fake_latency", "tiny", 1, ROUNDS, QUICK, Turns())
        engines = [(engine, engine.key != "steady") for engine in fake_latency.RIVALS if engine.key != "hanging"]
        return measure(plan, engines, log)


def test_an_engine_has_a_turn_in_every_round(found: Mapping[str, Engine]) -> None:
    engine = found["steady"]
    assert not engine.error
    assert len(engine.turns) == ROUNDS
    for turn in engine.turns:
        assert 0 < turn.min_ms <= turn.median_ms
        assert turn.calls >= QUICK.fewest
    assert engine.ready_s > 0
    assert engine.peak_mb > 50
    assert engine.how == "fast called"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("raising", "ValueError: no kernel for this layer"),
        ("crashing", "Crashing: crashed (SIGSEGV)"),
        ("not_finite", "its logits are not finite"),
        ("leaving", "ended with status 3"),
    ],
)
def test_one_that_fails_says_why_and_has_no_figures(found: Mapping[str, Engine], key: str, said: str) -> None:
    assert said in found[key].error
    assert "And more of it" not in found[key].error
    assert not found[key].turns


def test_one_that_compiles_for_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    hanging = next(engine for engine in fake_latency.RIVALS if engine.key == "hanging")
    plan = Plan("fake_latency", "tiny", 1, ROUNDS, QUICK, Turns(), ready_s=0.01)
    start = time.monotonic()
    with tempfile.TemporaryFile() as log:
        found = measure(plan, [(hanging, False)], log)
    assert "stopped after 0.01 s" in found["hanging"].error
    assert time.monotonic() - start < 300


class Stub:
    """A worker that answers with the given turns, and whose process has used the given CPU times."""

    def __init__(self, turns: list[Turn] | None = None, cpu: list[float] | None = None) -> None:
        self.turns, self.cpu = turns or [], cpu or [0.0]

    def turn(self, pace: Pace) -> Turn:
        return self.turns.pop(0)

    def cpu_s(self) -> float:
        return self.cpu.pop(0) if len(self.cpu) > 1 else self.cpu[0]


def turn(median_ms: float = 1.0, taken: float = 0.0) -> Turn:
    return Turn(median_ms, median_ms, 7, taken)


def test_a_disturbed_turn_is_taken_again_and_the_quietest_counts() -> None:
    peaceful = latency_crew._peaceful
    stub = Stub([turn(9, 0.9), turn(2, 0.1), turn(1)])
    assert peaceful(stub, [stub], QUICK).median_ms == 2  # type: ignore[list-item, arg-type]
    assert len(stub.turns) == 1
    stub = Stub([turn(9, 0.9), turn(7, 0.5), turn(8, 0.6), turn(1)])
    assert peaceful(stub, [stub], QUICK).median_ms == 7  # type: ignore[list-item, arg-type]
    assert len(stub.turns) == 1


def test_nobody_has_a_turn_while_another_one_spins() -> None:
    busy = Stub(cpu=[0.0, 0.01, 0.01, 0.02, 0.02, 0.02])
    wait_until_idle([busy, Stub()])  # type: ignore[list-item]
    assert len(busy.cpu) == 1


def test_one_that_always_spins_does_not_stop_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_crew, "PATIENCE_S", 0.05)
    busy = Stub(cpu=[float(i) for i in range(100)])
    wait_until_idle([busy])  # type: ignore[list-item]
    assert 1 < len(busy.cpu) < 100


def test_what_a_turn_times() -> None:
    """A clock that moves by 10 ms at every look: 3 calls to warm up, then calls of 10 ms each."""
    now, calls = iter(range(1000)), []
    found = time_turn(lambda: calls.append(1), Pace(0.0, 0.0, 5), lambda: next(now) / 100)
    assert found.calls == 5
    assert len(calls) == 8
    assert found.median_ms == pytest.approx(10)
    assert found.min_ms == pytest.approx(10)


def test_a_turn_that_refuses_is_an_error() -> None:
    class Refusing(Stub):
        def turn(self, pace: Pace) -> Turn:
            raise MeasurementError("gone", place="Stub")

        def end(self) -> None:
            self.ended = True

    crew, found = {"a": Refusing(), "b": Stub([turn()])}, {"a": Engine((turn(),)), "b": Engine()}
    latency_crew._round(crew, found, QUICK, random.Random(0))  # type: ignore[arg-type]
    assert list(crew) == ["b"]
    assert "gone" in found["a"].error
    assert found["a"].turns == ()
    assert found["b"].turns == (turn(),)
