"""QConfigs of torch.ao, translated by the names of their observers."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pytest

from pytest_ptq.errors import UnknownNameError, UsageError
from pytest_ptq.qconfig import MINMAX, X86, QConfig, get_qconfig
from pytest_ptq.suite import Suite
from pytest_ptq.torch_ao import TorchAoQConfig, is_torch_ao, translate


class Wrapper:
    """What `Observer.with_args(...)` returns."""

    def __init__(self, p: Any) -> None:
        self.p = p

    def __call__(self) -> Any:
        return self.p()


class Pair(NamedTuple):
    activation: Any
    weight: Any


def kind(name: str) -> type:
    return type(name, (), {})


def with_args(observer: Any, **arguments: Any) -> Wrapper:
    return Wrapper(partial(observer, **arguments))


WEIGHT = with_args(kind("PerChannelMinMaxObserver"), dtype="torch.qint8", qscheme="torch.per_channel_symmetric")


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (kind("HistogramObserver"), {"activation_observer": "histogram"}),
        (with_args(kind("MinMaxObserver")), {"activation_observer": "minmax"}),
        (
            with_args(kind("MovingAverageMinMaxObserver"), averaging_constant=0.01, dtype="torch.quint8"),
            {"activation_observer": "moving_average"},
        ),
        (with_args(kind("HistogramObserver"), reduce_range=True), {"reduce_range": True}),
        (with_args(kind("HistogramObserver"), reduce_range=False), {"reduce_range": False}),
        (with_args(kind("HistogramObserver"), quant_min=0, quant_max=127), {"reduce_range": True}),
        (with_args(kind("HistogramObserver"), quant_min=0, quant_max=255), {"reduce_range": False}),
        (
            with_args(kind("HistogramObserver"), qscheme="torch.per_tensor_symmetric"),
            {"activation_scheme": "symmetric"},
        ),
        (
            with_args(with_args(kind("HistogramObserver"), reduce_range=False), reduce_range=True),
            {"reduce_range": True},
        ),
        (partial(kind("HistogramObserver"), eps=1e-6), {}),
    ],
)
def test_activations(activation: Any, expected: dict[str, Any]) -> None:
    found = get_qconfig(Pair(activation, WEIGHT))
    assert found == replace(QConfig(found.name, activation_observer="histogram"), **expected)


@pytest.mark.parametrize(
    ("name", "granularity"),
    [
        ("MinMaxObserver", "per_tensor"),
        ("MovingAverageMinMaxObserver", "per_tensor"),
        ("PerChannelMinMaxObserver", "per_channel"),
        ("MovingAveragePerChannelMinMaxObserver", "per_channel"),
    ],
)
def test_weights(name: str, granularity: str) -> None:
    weight = with_args(
        kind(name), dtype="torch.qint8", qscheme=f"torch.{granularity}_symmetric", quant_max=127, quant_min=-128
    )
    assert get_qconfig(Pair(kind("MinMaxObserver"), weight)).weight_granularity == granularity


def test_names_tell_the_observers_apart() -> None:
    activations = [
        with_args(kind(name), **more)
        for name in ("MinMaxObserver", "HistogramObserver")
        for more in ({}, {"reduce_range": True}, {"reduce_range": False}, {"qscheme": "per_tensor_symmetric"})
    ]
    names = [get_qconfig(Pair(a, WEIGHT)).name for a in activations]
    assert len(set(names)) == len(names)
    assert names[0] == "torch_ao-minmax-per_channel"


def test_one_that_is_registered_gets_the_name_it_was_registered_by() -> None:
    table = {"ours": Pair(kind("HistogramObserver"), WEIGHT)}
    assert get_qconfig("ours", table) == replace(X86, name="ours")


@pytest.mark.parametrize(
    ("pair", "error", "message"),
    [
        (
            Pair(kind("HistgramObserver"), WEIGHT),
            UnknownNameError,
            "observer of torch.ao for activations.*Did you mean",
        ),
        (Pair(kind("FakeQuantize"), WEIGHT), UnknownNameError, "unknown observer of torch.ao for activations 'FakeQ"),
        (Pair(kind("MinMaxObserver"), kind("HistogramObserver")), UnknownNameError, "for weights 'HistogramObserver'"),
        (Pair(with_args(kind("MinMaxObserver"), dtype="torch.qint8"), WEIGHT), UsageError, "dtype is qint8.*uint8"),
        (Pair(with_args(kind("MinMaxObserver"), quant_min=0, quant_max=15), WEIGHT), UsageError, r"are \(0, 15\)"),
        (Pair(with_args(kind("MinMaxObserver"), qscheme="per_channel_affine"), WEIGHT), UnknownNameError, "qscheme"),
        (Pair(with_args(kind("HistogramObserver"), bins=64), WEIGHT), UsageError, "bins has no counterpart here"),
        (
            Pair(with_args(kind("MovingAverageMinMaxObserver"), averaging_constant=0.5), WEIGHT),
            UsageError,
            "averaging_constant is 0.5",
        ),
        (Pair(kind("MinMaxObserver"), kind("MinMaxObserver")), UsageError, "dtype is quint8.*dtype=torch.qint8"),
        (
            Pair(kind("MinMaxObserver"), with_args(kind("MinMaxObserver"), dtype="torch.qint8")),
            UsageError,
            "qscheme is per_tensor_affine.*torch.per_tensor_symmetric",
        ),
        (kind("MinMaxObserver"), UsageError, "a type is no qconfig. Give a QConfig or a name: minmax"),
        (None, UsageError, "a NoneType is no qconfig"),
        (Pair(kind("MinMaxObserver"), None), UsageError, "a Pair is no qconfig"),
    ],
)
def test_what_has_no_counterpart_is_one_sentence(pair: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        get_qconfig(pair)
    assert "\n" not in str(caught.value)


def test_the_real_ones() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao announces its removal
        ao = pytest.importorskip("torch.ao.quantization")
        x86, default = ao.get_default_qconfig("x86"), ao.default_qconfig
        training = ao.get_default_qat_qconfig("x86")
    assert translate(x86, "x86") == replace(X86, reduce_range=True)
    assert translate(default, "minmax") == replace(MINMAX, reduce_range=True)
    with pytest.raises(UnknownNameError, match="for activations 'Fused"):
        translate(training)


def test_torch_is_not_imported() -> None:
    code = """
import sys
from functools import partial
from types import SimpleNamespace
from pytest_ptq import get_qconfig
def kind(name, **arguments): return partial(type(name, (), {}), **arguments)
weight = kind("MinMaxObserver", dtype="qint8", qscheme="per_tensor_symmetric")
found = get_qconfig(SimpleNamespace(activation=kind("HistogramObserver"), weight=weight))
assert found.weight_granularity == "per_tensor"
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_type_of_a_suite_takes_them() -> None:
    assert Suite.__annotations__["qconfigs"] == "tuple[str | QConfig | TorchAoQConfig, ...]"
    assert [name for name, value in vars(TorchAoQConfig).items() if isinstance(value, property)] == [
        "activation",
        "weight",
    ]
    assert is_torch_ao(Pair(kind("HistogramObserver"), WEIGHT))
