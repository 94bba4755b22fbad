from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_ptq.errors import MeasurementError, UnknownNameError, UsageError
from pytest_ptq.measure.custom import Accumulator, MetricSource, check_table, find
from pytest_ptq.metrics import METRICS, TOP1_FP32, Direction, Metric

HIGHER, LOWER = Direction.HIGHER_IS_BETTER, Direction.LOWER_IS_BETTER
MIOU = Metric("miou_percent", "mIoU", "%", HIGHER)


class Mean:
    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total += float((outputs - targets).sum())
        self.count += len(outputs)

    def compute(self) -> float:
        return self.total / self.count


def source(function: Any) -> MetricSource:
    return MetricSource(MIOU, function=function)


def run(found: MetricSource, batches: Any) -> float:
    accumulator = Accumulator(found, "int8")
    for outputs, targets in batches:
        accumulator.update(outputs, targets)
    return accumulator.compute()


BATCHES = [(torch.tensor([1.0, 2.0]), torch.zeros(2)), (torch.tensor([6.0]), torch.ones(1))]


def test_a_stream_and_a_function_of_everything_give_the_same() -> None:
    whole = source(lambda outputs, targets: (outputs - targets).mean())
    assert run(MetricSource(MIOU, Mean), BATCHES) == pytest.approx(8 / 3)
    assert run(whole, BATCHES) == pytest.approx(8 / 3)


def test_every_pass_starts_anew() -> None:
    mean = MetricSource(MIOU, Mean)
    assert run(mean, BATCHES) == run(mean, BATCHES)


def test_nested_outputs_are_joined_part_by_part() -> None:
    seen: list[Any] = []
    outputs = [OrderedDict(out=torch.ones(2, 3)), OrderedDict(out=torch.zeros(1, 3))]
    targets = [[{"boxes": 1}, {"boxes": 2}], [{"boxes": 3}]]
    run(source(lambda *both: seen.extend(both) or 1.0), zip(outputs, targets, strict=True))
    assert seen[0]["out"].shape == (3, 3)
    assert [target["boxes"] for target in seen[1]] == [1, 2, 3]
    run(source(lambda outputs, _: float(outputs[1].sum())), [((torch.ones(1), torch.ones(2)), [0])] * 2)


@pytest.mark.parametrize(
    ("metric", "keys", "unit"),
    [
        (MIOU, ["miou_fp32_percent", "miou_int8_percent", "miou_loss_pp"], "pp"),
        (Metric("psnr_db", "PSNR", "dB", HIGHER), ["psnr_fp32_db", "psnr_int8_db", "psnr_loss_db"], "dB"),
        (Metric("perplexity", "PPL", "", LOWER), ["perplexity_fp32", "perplexity_int8", "perplexity_loss"], ""),
    ],
)
def test_what_is_measured_carries_its_unit(metric: Metric, keys: list[str], unit: str) -> None:
    derived = MetricSource(metric, Mean).derived
    assert [m.key for m in derived] == keys
    assert [m.direction for m in derived] == [metric.direction, metric.direction, LOWER]
    assert derived[2].unit == unit


@pytest.mark.parametrize(("direction", "loss"), [(HIGHER, 3.0), (LOWER, -3.0)])
def test_the_loss_is_how_much_worse_int8_is(direction: Direction, loss: float) -> None:
    found = MetricSource(Metric("x", "x", "", direction), Mean).measurements(10.0, 7.0, 5)
    assert [(m.value, m.samples) for m in found.values()] == [(10.0, 5), (7.0, 5), (loss, 5)]


@pytest.mark.parametrize(
    "value", [1, 2.5, torch.tensor(2.0), torch.tensor([3]), torch.tensor(1.0).double().numpy()[()]]
)
def test_whatever_holds_one_number_is_a_value(value: Any) -> None:
    assert run(source(lambda *_: value), BATCHES) == float(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "it is nan"),
        (torch.tensor(math.inf), "it is inf"),
        (None, "it gives a NoneType, not a number"),
        ("0.5", "it gives a str, not a number"),
        (True, "it gives a bool, not a number"),
        (torch.ones(2), "it gives a Tensor, not a number"),
        (torch.ones(2).numpy(), "it gives a ndarray, not a number"),
        (torch.tensor(True), "it gives a Tensor, not a number"),
        ({"map": 0.5}, "it gives a dict, not a number"),
    ],
)
def test_whatever_is_no_finite_number_names_the_metric(value: Any, said: str) -> None:
    with pytest.raises(MeasurementError, match=rf"measure: metric miou_percent, int8: {said}"):
        run(source(lambda *_: value), BATCHES)


def raises(*_: Any) -> Any:
    raise ValueError("two\nlines")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (source(raises), "compute raises ValueError: two lines"),
        (MetricSource(MIOU, raises), "its stream raises ValueError: two lines"),
        (
            MetricSource(MIOU, lambda: type("S", (), {"update": raises, "compute": raises})()),
            "update raises ValueError",
        ),
        (MetricSource(MIOU, dict), "stream makes a dict without update and compute"),
    ],
)
def test_code_that_raises_names_the_metric(found: MetricSource, said: str) -> None:
    with pytest.raises(MeasurementError, match=f"metric miou_percent, int8: {said}"):
        run(found, BATCHES)


@pytest.mark.parametrize(
    ("key", "unit", "said"),
    [
        ("miou", "%", "Call it miou_percent."),
        ("psnr_percent", "dB", "Call it psnr_percent_db."),
        ("mean IoU_percent", "%", "letters, digits"),
        ("_percent", "%", "ends in its unit"),
        ("", "", "letters, digits"),
    ],
)
def test_a_key_ends_in_its_unit(key: str, unit: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        MetricSource(Metric(key, "x", unit, HIGHER), Mean)


@pytest.mark.parametrize("ways", [{}, {"stream": Mean, "function": raises}])
def test_there_is_one_way_to_compute_it(ways: Any) -> None:
    with pytest.raises(UsageError, match="metric miou_percent: it takes one way to compute it"):
        MetricSource(MIOU, **ways)


def test_the_table_holds_what_may_have_a_limit() -> None:
    known = check_table({"miou_percent": MetricSource(MIOU, Mean)})
    assert set(known) - set(METRICS) == {"miou_fp32_percent", "miou_int8_percent", "miou_loss_pp"}


def test_a_table_that_cannot_be() -> None:
    top1 = Metric("top1_percent", "mine", "%", HIGHER)
    for table, said in (
        ({"miou": MetricSource(MIOU, Mean)}, "'miou' is registered with the key 'miou_percent'"),
        ({"miou_percent": Mean}, "'miou_percent' is a type"),
        ({"top1_percent": MetricSource(top1, Mean)}, f"measured as '{TOP1_FP32.key}', which is taken"),
    ):
        with pytest.raises(UsageError, match=said):
            check_table(table)  # type: ignore[arg-type]


def test_names_are_looked_up_once_each() -> None:
    miou = MetricSource(MIOU, Mean)
    assert find(["miou_percent", "miou_percent"], {"miou_percent": miou}, "here") == (miou,)
    with pytest.raises(UnknownNameError, match=r"here: unknown metric 'miuo_percent'. Did you mean 'miou_percent'\?"):
        find(["miuo_percent"], {"miou_percent": miou}, "here")
