"""Models that are timed in turn: whose turn it is, what is kept of a process, and who drops out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from pytest_ptq.errors import MeasurementError
from pytest_ptq.measure.load import Load
from pytest_ptq.measure.pairs import CROWDED, Pairs, ProcessTimes
from pytest_ptq.measure.processes import CONTROL, REFERENCE, Job
from pytest_ptq.measure.turns import TRIES, time_in_turn

JOBS = {name: Job({REFERENCE: name.encode()}, (1, 3, 8, 8), 1) for name in ("torch", "onnxruntime", "openvino")}
MS = {b"torch": 3.0, b"onnxruntime": 2.0, b"openvino": 1.0}


class Machine:
    """Stands in for processes: remembers whose they are, and what else the machine does."""

    def __init__(self, load: Callable[[int], float] = lambda call: 0.0, broken: bytes = b"") -> None:
        self.load, self.broken = load, broken
        self.asked: list[tuple[str, int]] = []

    def __call__(self, job: Job, seeds: Sequence[int]) -> Iterator[ProcessTimes]:
        (seed,), model = seeds, job.models[REFERENCE]
        assert isinstance(model, bytes)
        self.asked.append((model.decode(), seed))
        if model == self.broken:
            raise MeasurementError("OpenVINO cannot run the model")
        ms, load = MS[model], self.load(len(self.asked))
        slower = 10.0 if load > CROWDED else 1.0
        pairs = Pairs((ms * slower, 2 * ms * slower), (ms * slower, ms * slower), (True, False))
        yield ProcessTimes({CONTROL: pairs}, Load(load, None), 3, 0.0, 80.0)


def test_every_job_has_its_turn_in_every_round_in_alternating_order() -> None:
    machine = Machine()
    found = list(time_in_turn(JOBS, 3, machine))
    forth = ["torch", "onnxruntime", "openvino"]
    assert [name for name, _ in machine.asked] == [*forth, *reversed(forth), *forth]
    assert [name for name, _ in found] == [name for name, _ in machine.asked]
    assert dict(found) == {"torch": 3.0, "onnxruntime": 2.0, "openvino": 1.0}
    assert len({(name, seed) for name, seed in machine.asked}) == 9, "no order of pairs comes twice"


def test_one_that_fails_has_no_further_turn() -> None:
    machine = Machine(broken=b"openvino")
    found = list(time_in_turn(JOBS, 3, machine))
    assert [name for name, _ in machine.asked].count("openvino") == 1
    (error,) = [ms for name, ms in found if name == "openvino"]
    assert str(error) == "measure: OpenVINO cannot run the model"
    assert [ms for name, ms in found if name == "torch"] == [3.0, 3.0, 3.0]


@pytest.mark.parametrize(("crowded", "ms", "calls"), [(1, 3.0, 2), (TRIES, 30.0, TRIES), (99, 30.0, TRIES)])
def test_a_process_that_shared_the_machine_is_begun_again_a_few_times(crowded: int, ms: float, calls: int) -> None:
    machine = Machine(lambda call: 0.5 if call <= crowded else 0.0)
    assert list(time_in_turn({"torch": JOBS["torch"]}, 1, machine)) == [("torch", ms)]
    assert len(machine.asked) == calls
    assert len(set(machine.asked)) == calls
