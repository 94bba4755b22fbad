"""The protocol: which processes are run, when it stops, and what is made of their times."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.latency import Latency, LatencySamples, Protocol, median_log_ratio, noise_floor
from pytest_ptq.measure.latency_measurements import eager, one_process, to_measurements
from pytest_ptq.measure.load import Load
from pytest_ptq.measure.pairs import Pairs, ProcessTimes
from pytest_ptq.measure.processes import CONTROL, REFERENCE, Job

ratios = st.floats(0.05, 20)
ORDER = (True, False, True)


def pairs(ratio, fp32=10.0, creep=0.0):
    """Three pairs whose ratio moves by `creep` from the first to the last."""
    return Pairs((fp32,) * 3, tuple(fp32 * ratio * (1 + creep * (i - 1)) for i in range(3)), ORDER)


def samples(found, control=(1.0, 1.0, 1.0), **more):
    made = tuple(p if isinstance(p, Pairs) else pairs(p) for p in found)
    return LatencySamples(made, 1, control=tuple(pairs(c) for c in control), **more)


class Machine:
    """Stands in for processes: hands out ratios in turn, and remembers what was asked for."""

    def __init__(self, ratio=0.5, loads=(), creep=0.0, control=1.0):
        self.ratio, self.creep, self.control = ratio, creep, control
        self.loads = list(loads)
        self.asked, self.seeds = [], []

    def __call__(self, job, seeds, at_once):
        names = [name for name in job.models if name != REFERENCE]
        self.asked.append(names)
        for seed in seeds:
            self.seeds.append(seed)
            load = self.loads.pop(0) if self.loads else 0.0
            jitter = 1 + 0.001 * (seed % 3)
            timed = {name: pairs(self.ratio * jitter, creep=self.creep) for name in names}
            yield ProcessTimes({**timed, CONTROL: pairs(self.control * jitter)}, Load(load, 0.0), 3, 0.0, 80.0)


def latency(machine, **more):
    models = {REFERENCE: b"", "a": b"", "b": b""}
    return Latency(Job(models, (1,), 1), spawn=machine, **more)


def test_few_processes_at_first_and_once_the_extension():
    machine = Machine()
    measured = latency(machine)
    assert len(measured.samples("a").processes) == 5
    assert measured.can_extend("a")
    extended = measured.extend("a")
    assert (len(extended.processes), extended.looks) == (15, 2)
    assert not measured.can_extend("a")
    assert measured.samples("a") == extended
    assert machine.seeds == list(range(15)), "each process has an order of its own"


def test_models_that_are_asked_for_together_share_their_processes_and_their_control():
    machine = Machine()
    measured = latency(machine)
    first, second = measured.samples("a", ["a", "b"]), measured.samples("b", ["a", "b"])
    assert machine.asked == [["a", "b"]]
    assert first.control == second.control
    measured.extend("b")
    assert machine.asked[1:] == [["b"]], "only the open question is looked at again"
    assert len(measured.samples("a").processes) == 5


def test_a_model_can_be_made_known_later():
    measured = latency(Machine())
    measured.samples("a")
    measured.add("c", b"")
    assert len(measured.samples("c").processes) == 5


def test_a_crowded_process_is_replaced():
    machine = Machine(loads=[0.0, 0.9, 0.0, 0.9])
    found = latency(machine).samples("a")
    assert len(machine.seeds) == 7
    assert len(found.processes) == 5
    assert not found.unfit


def test_a_crowded_machine_is_given_up_and_said_so():
    machine = Machine(loads=[0.0, 0.6, 0.6, 0.6])
    measured = latency(machine, protocol=Protocol(processes=5, crowded=2))
    found = measured.samples("a")
    assert len(machine.seeds) == 4
    assert found.unfit == "other programs used 60 % of the CPUs"
    assert len(found.processes) == 4, "what was timed is shown all the same"
    assert not measured.can_extend("a")


def test_progress_sees_every_process():
    seen = []

    def progress(items, title, total):
        items = list(items)
        seen.append((title, total, len(items)))
        yield from items

    latency(Machine(), progress=progress).samples("a", ["b"])
    assert seen == [("latency of a, b", 5, 5)]


def test_a_control_that_is_off_makes_all_else_unfit():
    assert latency(Machine(control=1.1)).samples("a").unfit == "fp32 timed against itself came out as 1.101"
    assert not latency(Machine(control=1.02)).samples("a").unfit


def test_a_ratio_that_has_not_settled_is_known_no_better_than_it_moved():
    found = latency(Machine(creep=0.06)).samples("a")
    assert found.moved == pytest.approx(math.log(1.06 / 0.94))
    wide, calm = to_measurements(found)["latency_ratio"], to_measurements(samples([0.5, 0.501, 0.499]))["latency_ratio"]
    assert wide.details["moved_log"] == found.moved
    assert wide.low < 0.5 * math.exp(-found.moved / 2) < 0.5 * math.exp(found.moved / 2) < wide.high
    assert "moved_log" not in calm.details
    assert latency(Machine(creep=0.01)).samples("a").moved == 0.0


def test_a_drift_that_may_be_chance_widens_nothing():
    assert samples([pairs(0.5, creep=0.1), pairs(0.5, creep=-0.08), pairs(0.5, creep=0.02)]).moved == 0.0


def test_a_wild_control_is_not_taken_for_one_that_is_surely_off():
    assert not samples([0.5] * 3, control=(0.5, 1.0, 2.2)).unfit


@pytest.mark.parametrize(
    "broken",
    [
        Pairs((), (), ()),
        Pairs((1.0,), (), ()),
        Pairs((math.nan,), (1.0,), (True,)),
        Pairs((1.0,), (-1.0,), (True,)),
        Pairs((0.0,), (1.0,), (True,)),
    ],
)
def test_broken_samples_are_refused(broken):
    with pytest.raises(MeasurementError):
        LatencySamples((broken,), 1)
    with pytest.raises(MeasurementError):
        LatencySamples((pairs(0.5),), 1, control=(broken,))


def test_the_statistic_is_one_median_a_process():
    wild = Pairs((10.0, 10.0, 10.0), (5.0, 5.0, 5000.0), ORDER)
    assert median_log_ratio(wild) == pytest.approx(math.log(0.5))
    assert samples([wild, wild]).log_ratio.value == pytest.approx(math.log(0.5))


def test_measurements_by_hand():
    logs = [-0.70, -0.72, -0.68, -0.71, -0.69]
    found = to_measurements(samples([math.exp(x) for x in logs], control=(1.0, 1.01, 0.99)))
    ratio = found["latency_ratio"]
    half = 2.7764 * math.sqrt(0.001 / 4 / 5)
    assert ratio.value == pytest.approx(math.exp(-0.70))
    assert (ratio.low, ratio.high) == pytest.approx((math.exp(-0.70 - half), math.exp(-0.70 + half)), rel=1e-4)
    assert ratio.samples == 15
    assert (ratio.details["processes"], ratio.details["looks"]) == (5, 1)
    assert found["latency_fp32_ms"].value == pytest.approx(10.0)
    assert found["latency_int8_ms"].value == pytest.approx(10 * math.exp(-0.70))
    assert found["latency_int8_ms"].details["processes"] == 5


def test_the_interval_after_a_second_look_is_wider_so_that_all_cover_95_percent():
    found = [0.49, 0.5, 0.51]
    first, second = (to_measurements(samples(found, looks=looks))["latency_ratio"] for looks in (1, 2))
    low, high = samples(found).log_ratio.interval(0.975)
    assert (second.low, second.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert second.low < first.low < first.high < second.high


def test_the_noise_floor_is_the_farther_end_of_the_controls_interval():
    found = samples([0.5] * 3, control=(1.0, 1.02, 1.01))
    low, high = found.control_log_ratio.interval()
    assert noise_floor(found) == pytest.approx(math.exp(max(-low, high)) - 1)
    assert to_measurements(found)["latency_ratio"].details["noise_floor_percent"] == pytest.approx(
        100 * noise_floor(found)
    )
    assert noise_floor(samples([0.5], control=(1.0,))) is None


def test_one_process_has_no_interval_and_says_why():
    found = to_measurements(one_process(pairs(0.5), 1, "the model cannot be stored"))["latency_ratio"]
    assert (found.low, found.high) == (None, None)
    assert found.details["unfit"] == "it was timed in one process only, because the model cannot be stored"


def test_eager_is_a_median():
    assert eager((3.0, 1.0, 2.0))["latency_eager_ms"].value == 2.0


@given(st.lists(ratios, min_size=2, max_size=20))
def test_the_ratio_of_swapped_models_is_the_inverse(found):
    def swapped(p):
        return Pairs(p.variant_ms, p.reference_ms, p.variant_first)

    there = to_measurements(samples(found))["latency_ratio"]
    back = to_measurements(samples([swapped(pairs(r)) for r in found]))["latency_ratio"]
    assert back.value == pytest.approx(1 / there.value)
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low))


@given(st.lists(ratios, min_size=2, max_size=20), st.floats(0.1, 10))
def test_a_machine_that_is_slower_altogether_changes_no_ratio(found, slower):
    as_is = to_measurements(samples([pairs(r) for r in found]))["latency_ratio"]
    slow = to_measurements(samples([pairs(r, fp32=10 * slower) for r in found]))["latency_ratio"]
    assert slow.value == pytest.approx(as_is.value)
    assert slow.low <= slow.value <= slow.high
