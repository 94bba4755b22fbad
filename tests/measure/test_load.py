"""What else ran: the counters of /proc/stat, made up here and real."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.measure import load
from pytest_ptq.measure.load import Load, LoadMeter

HZ = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Two usable CPUs of three, and clocks that are set by hand: set(wall_s, own_s, cpu0, cpu1, cpu2)."""
    stat = tmp_path / "stat"
    monkeypatch.setattr(load, "PROC_STAT", stat)
    monkeypatch.setattr(load, "_usable_cpus", lambda: frozenset({0, 1}))

    def set_to(wall, own, *cpus):
        monkeypatch.setattr(load.time, "perf_counter", lambda: wall)
        monkeypatch.setattr(load.time, "process_time", lambda: own)
        lines = [f"cpu{i} {' '.join(str(round(s * HZ)) for s in columns)}" for i, columns in enumerate(cpus)]
        stat.write_text("cpu  1 1 1\n" + "\n".join(lines) + "\nintr 5 0\n", encoding="ascii")

    return set_to


#            user nice system idle iowait irq softirq steal
ZERO = (0, 0, 0, 0, 0, 0, 0, 0)


def test_shares_by_hand(machine):
    machine(100.0, 7.0, ZERO, ZERO, ZERO)
    meter = LoadMeter()
    # 10 s on two CPUs: 12 busy, of which 8 our own; 2 stolen; the third CPU is none of ours.
    machine(110.0, 15.0, (5, 1, 1, 3, 9, 0, 0, 1), (4, 0, 0, 5, 0, 0.5, 0.5, 1), (10, 0, 0, 0, 0, 0, 0, 0))
    found = meter.load()
    assert found.other == pytest.approx(0.2)
    assert found.steal == pytest.approx(0.1)
    assert found.taken == pytest.approx(0.3)


def test_waiting_for_a_disk_is_no_load(machine):
    machine(0.0, 0.0, ZERO, ZERO)
    meter = LoadMeter()
    machine(1.0, 0.0, (0, 0, 0, 0.5, 0.5, 0, 0, 0), (0, 0, 0, 1, 0, 0, 0, 0))
    assert meter.load() == Load(other=0.0, steal=0.0)


def test_ticks_that_lag_behind_are_not_negative(machine):
    machine(0.0, 0.0, ZERO, ZERO)
    meter = LoadMeter()
    machine(0.01, 0.02, ZERO, ZERO)
    assert meter.load().other == 0.0


@pytest.mark.parametrize("text", ["", "cpu0 one two three four five six seven eight\n", "nonsense"])
def test_a_system_that_does_not_tell_is_not_taken_for_idle_or_busy(monkeypatch, tmp_path, text):
    stat = tmp_path / "stat"
    stat.write_text(text, encoding="ascii")
    monkeypatch.setattr(load, "PROC_STAT", stat)
    assert LoadMeter().load().taken == 0.0


def test_without_the_file_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(load, "PROC_STAT", tmp_path / "none")
    assert LoadMeter().load() == Load(None, None)


@given(st.lists(st.floats(0, 50), min_size=8, max_size=8), st.floats(0.1, 100), st.floats(0, 100))
def test_shares_stay_shares(columns, wall, own):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoadMeter, "_now", lambda self: (0.0, 0.0, 0.0, 0.0))
        meter = LoadMeter()
        patch.setattr(LoadMeter, "_now", lambda self: (wall, sum(columns), columns[7], own))
        found = meter.load()
    assert 0 <= found.other <= 1
    assert 0 <= found.steal <= 1


def test_this_machine_answers():
    meter = LoadMeter()
    found = meter.load()
    assert found.other is None or 0 <= found.other <= 1
