"""The arithmetic of the speed tables: medians with intervals, lines, goals, and work that takes turns."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import memory
from benchmarks.estimate import Estimate, estimate, geometric_mean, ratios
from benchmarks.goal import Goal, goals
from benchmarks.main_job import used
from benchmarks.memory import peak_mb
from benchmarks.page import insert
from benchmarks.rounds import in_rounds
from benchmarks.scaling import fit
from benchmarks.turns import Turns
from pytest_ptq.errors import MeasurementError, UsageError

TIMES = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12)


def test_an_interval_by_hand() -> None:
    """Logs 0, 1 and 2: mean 1, standard error 1 / sqrt(3), and the 97.5 % quantile of t with 2 degrees is 4.30265."""
    found = estimate([1.0, math.e, math.e**2])
    half = 4.302652729 / math.sqrt(3)
    assert found.value == math.e
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((1 - half, 1 + half))


@given(TIMES, st.floats(0.01, 100))
def test_another_unit_changes_nothing_else(times: list[float], factor: float) -> None:
    one, other = estimate(times), estimate([factor * t for t in times])
    for field in ("value", "low", "high"):
        assert getattr(other, field) == pytest.approx(factor * getattr(one, field), rel=1e-6)


@given(TIMES, st.floats(0.1, 10))
def test_a_machine_that_changes_its_speed_changes_no_ratio(times: list[float], factor: float) -> None:
    found = ratios([factor * t for t in times], times)
    assert (found.value, found.low, found.high) == pytest.approx((factor, factor, factor), rel=1e-6)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, 0.0], [1.0, math.inf]])
def test_what_has_no_interval(values: list[float]) -> None:
    with pytest.raises(MeasurementError):
        estimate(values)


def test_ratios_need_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_how_an_estimate_is_shown() -> None:
    assert f"{Estimate(1.0, 0.876, 1.25):.2f}" == "1.00 [0.88, 1.25]"


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert geometric_mean([8.0, 1.0, 1.0]) == pytest.approx(2.0)


def test_a_goal_is_judged_by_what_is_shown() -> None:
    assert Goal("g", 1.154, 1.15).cells() == ["g", "at most 1.15", "1.15", "yes"]
    assert Goal("g", 1.156, 1.15).cells()[-1] == "no"
    assert Goal("g", 30.0, 30, "ms", 1).cells() == ["g", "at most 30 ms", "30.0 ms", "yes"]
    assert goals([Goal("g", 2, 1)]).endswith("| no        |")
    with pytest.raises(MeasurementError, match="NaN"):
        Goal("g", math.nan, 1).reached()


def test_a_line_by_least_squares() -> None:
    found = fit({1: [3.0, 3.0], 2: [5.0], 4: [9.0]})
    assert (found.slope, found.offset, found.off) == pytest.approx((2, 1, 0))
    # 1, 4, 9 at 1, 2, 3: the line 4 n - 10 / 3, off by half of its 0.667 at 1.
    found = fit({1: [1.0], 2: [4.0], 3: [9.0]})
    assert (found.slope, found.offset, found.off) == pytest.approx((4, -10 / 3, 0.5))
    with pytest.raises(MeasurementError, match="2 points"):
        fit({1: [1.0], 2: [2.0]})


def test_work_takes_turns_and_getting_ready_is_not_timed() -> None:
    now, did = [0.0], []

    def work(name: str, seconds: float) -> Callable[[], Callable[[], None]]:
        def run() -> None:
            did.append(name)
            now[0] += seconds

        def ready() -> Callable[[], None]:
            now[0] += 100
            return run

        return ready

    found = in_rounds({"a": work("a", 1.0), "b": work("b", 2.0)}, 4, Turns(), lambda: now[0])
    assert found == {"a": [1.0] * 4, "b": [2.0] * 4}
    pairs = {tuple(did[i : i + 2]) for i in range(0, len(did), 2)}
    assert len(did) == 10  # a round more, to warm up
    assert pairs == {("a", "b"), ("b", "a")}


_HOLDER = """
import sys, time
from pathlib import Path
from benchmarks.turns import Turns
with getattr(Turns([Path(p) for p in sys.argv[2:]]), sys.argv[1])():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("other", "waits"), [("timing", True), ("preparing", False)])
def test_nothing_is_prepared_while_something_is_timed(tmp_path: Path, other: str, waits: bool) -> None:
    locks = [tmp_path / "gate", tmp_path / "quiet"]
    command = [sys.executable, "-c", _HOLDER, other, *map(str, locks)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        me = [sys.executable, "-c", _HOLDER, "preparing", *map(str, locks)]
        with subprocess.Popen(me, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as mine:
            if waits:
                time.sleep(0.3)
                assert mine.poll() is None
                holder.stdin.close()
            assert mine.wait(60) == 0
        holder.stdin.close()


def test_without_locks_there_are_no_turns() -> None:
    with Turns().timing(), Turns().preparing():
        pass


def test_a_table_goes_between_its_own_marks(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        "<!-- a: begin -->\n<!-- a: end -->\nx\n<!-- b: begin -->\nold\n<!-- b: end -->\n", encoding="utf-8"
    )
    insert(path, "new", "b")
    text = "<!-- a: begin -->\n<!-- a: end -->\nx\n<!-- b: begin -->\n\nnew\n\n<!-- b: end -->\n"
    assert path.read_text(encoding="utf-8") == text
    with pytest.raises(UsageError, match="marks of the c table are missing"):
        insert(path, "new", "c")
    with pytest.raises(UsageError, match="FileNotFoundError"):
        insert(tmp_path / "no.md", "new", "a")


def test_memory_is_this_process_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a parent held when it started a process is not that process's, as getrusage has it."""
    held = bytearray(1) * (300 << 20)
    assert peak_mb() > 300
    child = "from benchmarks.memory import peak_mb; print(peak_mb())"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200
    assert used([sys.executable, "-c", "pass"]).peak_gb < 0.2
    assert 0.2 < used([sys.executable, "-c", "bytearray(1) * (200 << 20)"]).peak_gb < 0.4
    del held
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    with pytest.raises(MeasurementError, match="FileNotFoundError"):
        peak_mb()


def test_how_a_command_ended() -> None:
    found = used([sys.executable, "-c", "import time; time.sleep(0.1); raise SystemExit(3)"])
    assert found.status == 3
    assert found.seconds > 0.1
