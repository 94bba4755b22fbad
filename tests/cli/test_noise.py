"""The noise of a machine: times that are known beforehand, and what tolerance follows from them."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import stdev

import pytest
from plugin.clockwork import Clockwork

from pytest_ptq.measure.machine import describe_machine
from pytest_ptq.noise import suggested
from pytest_ptq.student import t_quantile

TINY = Path(__file__).parents[1] / "plugin" / "tiny_suite.py"


@pytest.fixture
def wind(tmp_path, monkeypatch):
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.py").write_text(TINY.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def made(*int8_ms, **more):
        clock = Clockwork(*int8_ms, **more)
        monkeypatch.setattr("pytest_ptq.measure.latency._spawn", clock)
        return clock

    return made


def test_the_suggestion_follows_from_the_spread(ask, wind):
    times = [[0.5 * factor] * 4 for factor in (0.98, 1.0, 1.02, 1.01, 0.99)]
    clock = wind(*times)
    found = ask("noise", "tiny", "--threads", "1", "--json").json
    assert clock.processes == found["processes"] == 15, "as many as for a baseline"
    spread = stdev([math.log(values[0]) for values in times * 3])
    reach = t_quantile(0.9875, 4) * spread / math.sqrt(5)
    assert found["spread"] == pytest.approx(math.expm1(spread))
    assert found["reach"] == pytest.approx(math.expm1(reach))
    assert found["tolerance"] == math.ceil(100 * math.expm1(reach)) / 100 == 0.03
    assert found["ratio"] == pytest.approx(0.5, rel=1e-3)
    assert (found["control"], found["floor"]) == (1.0, 0.0)
    said = ask("noise", "tiny", "--threads", "1")
    assert 'suggested: "tolerances": {"latency_ratio": 0.03} in the baseline file' in said.out


def test_a_machine_that_is_not_free_tells_nothing(ask, wind):
    wind(other=0.9)
    said = ask("noise", "tiny", "--threads", "1")
    assert (said.status, said.out) == (1, "")
    assert "nothing can be told of this machine's noise: other programs used 90 % of the CPUs" in said.err


def test_misuse(ask, wind):
    wind()
    assert "unknown suite 'tinny'. Did you mean 'tiny'?" in ask("noise", "tinny").err
    assert ask("noise", "tiny", "--qconfig", "x87").status == 4
    assert ask("noise", "tiny", "--qconfig", "x86-fastest").status == 4


def test_the_noise_of_a_runtime_is_told_under_its_key(ask, wind):
    wind()
    found = ask("noise", "tiny", "--threads", "1", "--qconfig", "x86-openvino", "--json").json
    assert found["machine"] == describe_machine(1).key_for("openvino")
    assert "/openvino/1t/openvino" in found["machine"]


@pytest.mark.parametrize(
    ("floor", "reach", "tolerance"),
    [(0.0, 0.0, 0.01), (0.012, 0.004, 0.02), (0.01, 0.031, 0.04), (0.03, 0.03, 0.03), (0.0, 0.07, 0.07)],
)
def test_whole_percents_and_never_nothing(floor, reach, tolerance):
    assert suggested(floor, reach) == tolerance
