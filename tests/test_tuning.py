"""The search for the fewest fp32 layers: what it finds, and how few evaluations it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from pytest_ptq import tuning
from pytest_ptq.metrics import SQNR, Measurement
from pytest_ptq.qconfig import QConfig
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import Suite, Variant
from pytest_ptq.tuning import Tuned, layer_macs, rank, tune, weighted_layers

QCONFIG = QConfig("mine", activation_observer="minmax", weight_granularity="per_tensor", reduce_range=False)
DEPTH = 12


class Forgetful:
    """Remembers within itself, and counts what it was told."""

    def __init__(self) -> None:
        self.noises: dict[str, float] = {}
        self.evaluations: dict[frozenset[str], Mapping[str, Measurement]] = {}

    def noise(self, layer: str) -> float | None:
        return self.noises.get(layer)

    def remember_noise(self, layer: str, value: float) -> None:
        assert layer not in self.noises
        self.noises[layer] = value

    def evaluation(self, layers: Sequence[str]) -> Mapping[str, Measurement] | None:
        return self.evaluations.get(frozenset(layers))

    def remember_evaluation(self, layers: Sequence[str], found: Mapping[str, Measurement]) -> None:
        assert frozenset(layers) not in self.evaluations
        self.evaluations[frozenset(layers)] = found


def build(broken: Sequence[int]) -> nn.Module:
    """Linear layers, of which some have one output a thousand times the others, made small again behind it."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(DEPTH):
        layer = nn.Linear(16, 16)
        with torch.no_grad():
            layer.weight.copy_(torch.linalg.qr(torch.randn(16, 16))[0] * 1.4)
            if i in broken:
                # A row beyond all others takes the one scale of the weight; the ReLU behind it says 0 for it.
                layer.weight[3] = 0.0
                layer.weight[3, 0] = 60.0
                layer.bias[3] = -1000.0
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(16, 10)).eval()


class Noise:
    name = "noise"

    def __init__(self) -> None:
        self.images = torch.randn(96, 16, generator=torch.Generator().manual_seed(1))

    def load(self, argument: str | None = None) -> Noise:
        return self

    def calibration(self) -> list[Tensor]:
        return [self.images[:32]]

    def evaluation(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.images[32:], torch.arange(64) % 10)]

    def fingerprints(self) -> tuple[list[str], list[str]]:
        return list(map(str, range(32))), list(map(str, range(32, 96)))


def suite_run(broken: Sequence[int]) -> SuiteRun:
    suite = Suite(
        name="deep", variants={"embedded": Variant(model=lambda: build(broken), data=Noise())}, latency_shape=(1, 16)
    )
    return SuiteRun(suite)


def at_least(db: float):
    return lambda measured: measured[SQNR.key].value >= db


@pytest.mark.parametrize("broken", [(4,), (2, 9), (1, 5, 8)])
def test_the_layers_that_hurt_are_found_with_few_evaluations(broken: tuple[int, ...]) -> None:
    run, memory = suite_run(broken), Forgetful()
    sound = suite_run(()).measure("accuracy", QCONFIG)[SQNR.key].value
    assert run.measure("accuracy", QCONFIG)[SQNR.key].value < sound - 6
    found = tune(run, QCONFIG, at_least(sound - 3), memory)
    assert found.meets
    assert set(found.layers) == {str(2 * i) for i in broken}
    assert found.candidates == DEPTH + 1
    assert found.evaluations == len(memory.evaluations) < found.candidates, "a sweep evaluates every layer"
    assert found.evaluations <= 8


class Judged:
    """A search over layers of which nobody knows more than which sets hold."""

    def __init__(self, *good: set[str]) -> None:
        self.good, self.asked = good, 0

    def holds(self, layers: Sequence[str]) -> bool:
        self.asked += 1
        return set(layers) in self.good


def test_of_equally_many_layers_those_that_multiply_least_are_taken() -> None:
    """In the order of the noise, and only where the limits still hold and half of the multiplications are saved."""
    macs = {"a": 100, "b": 900, "c": 60, "d": 400, "e": 10}
    ranked = tuple("abcde")
    for good, expected, asked in (
        ([{"a", "c"}], ("a", "c"), 2),  # c in place of b; then e in place of a does not hold
        ([{"a", "c"}, {"c", "e"}], ("c", "e"), 2),
        ([], ("a", "b"), 2),
    ):
        search = Judged(*good)
        assert tuning._cheaper(search, ("a", "b"), ranked, macs) == expected  # type: ignore[arg-type]
        assert search.asked == asked
    search = Judged({"c"})
    assert tuning._cheaper(search, ("c",), ("c", "f"), {"c": 60, "f": 40}) == ("c",)  # type: ignore[arg-type]
    assert not search.asked, "a third less is not worth an evaluation"


def test_multiplications_are_counted_by_layer() -> None:
    macs = layer_macs(suite_run(()))
    assert [macs[str(2 * i)] for i in range(DEPTH + 1)] == [16 * 16] * DEPTH + [16 * 10]


def test_what_keeps_its_limits_costs_one_evaluation_and_no_ranking() -> None:
    memory = Forgetful()
    found = tune(suite_run(()), QCONFIG, at_least(-100.0), memory)
    assert (found.layers, found.evaluations, found.meets) == ((), 1, True)
    assert found.qconfig == QCONFIG
    assert not memory.noises


def test_limits_that_nothing_keeps() -> None:
    found = tune(suite_run((4,)), QCONFIG, lambda _: False, Forgetful())
    assert not found.meets
    assert len(found.layers) == DEPTH, "one layer has to stay in int8"
    assert found.evaluations <= 6


def test_a_search_goes_on_where_it_was() -> None:
    memory = Forgetful()
    first = tune(suite_run((2, 9)), QCONFIG, at_least(20.0), memory)

    class Untouchable:
        """Nothing is evaluated or ranked a second time."""

        def __getattr__(self, name: str) -> object:
            value = getattr(self.run, name)
            assert name != "measure", "evaluated again"
            return value

        run = suite_run((2, 9))

    second = tune(Untouchable(), QCONFIG, at_least(20.0), memory)  # type: ignore[arg-type]
    assert second == first
    assert first.evaluations == len(memory.evaluations)


class Interrupted(Forgetful):
    """Ctrl-C comes when it has been told so many things."""

    def __init__(self, told: int) -> None:
        super().__init__()
        self.left = told

    def _tell(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def remember_noise(self, layer: str, value: float) -> None:
        super().remember_noise(layer, value)
        self._tell()

    def remember_evaluation(self, layers: Sequence[str], found: Mapping[str, Measurement]) -> None:
        super().remember_evaluation(layers, found)
        self._tell()


@pytest.mark.parametrize("told", [1, 6, DEPTH + 3, DEPTH + 5], ids=["evaluated", "ranking", "doubling", "halving"])
def test_an_interrupted_search_loses_nothing(told: int) -> None:
    """Whoever remembers refuses to be told the same twice."""
    whole, memory = Forgetful(), Interrupted(told)
    expected = tune(suite_run((2, 9)), QCONFIG, at_least(20.0), whole)
    with pytest.raises(KeyboardInterrupt):
        tune(suite_run((2, 9)), QCONFIG, at_least(20.0), memory)
    assert len(memory.noises) + len(memory.evaluations) == told
    assert tune(suite_run((2, 9)), QCONFIG, at_least(20.0), memory) == expected
    assert (memory.noises, memory.evaluations) == (whole.noises, whole.evaluations)


def test_the_ranking_is_by_the_noise_of_each_layer_alone() -> None:
    run = suite_run((2, 9))
    assert set(rank(run, QCONFIG, Forgetful())[:2]) == {"4", "18"}
    assert weighted_layers(run, QCONFIG) == tuple(str(2 * i) for i in range(DEPTH + 1))


def test_layers_that_are_in_fp32_already_stay_there() -> None:
    kept = QConfig("kept", "minmax", "per_tensor", reduce_range=False, fp32_layers=("4",))
    sound = suite_run(()).measure("accuracy", QCONFIG)[SQNR.key].value
    found = tune(suite_run((2, 9)), kept, at_least(sound - 3), Forgetful())
    assert found.layers == ("18",)
    assert found.qconfig.fp32_layers == ("4", "18")


def test_it_can_be_pasted() -> None:
    qconfig = QConfig("mine-tuned", "minmax", "per_tensor", fp32_layers=("features.0.0", "fc"))
    text = Tuned(qconfig, ("features.0.0", "fc"), True, {}, 3, 9).source()
    assert eval(text, {"QConfig": QConfig}) == qconfig  # noqa: S307
    assert "reduce_range" not in text
