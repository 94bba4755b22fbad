"""Deliberately broken engines, run as a user would run them: the accuracy gate has to fail each, and pass the real one.

Trained weights, real images, a limit of one point. A gate that these got past would be worth nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torchvision  # noqa: F401  (met first in an inner run, it would be forgotten when that ends)
from torch import Tensor

from pytest_ptq.engine import kernels, observers
from pytest_ptq.engine.modules import shared
from pytest_ptq.engine.observers import Statistics

SUITE = """
from pytest_ptq import FashionMNIST, Suite, TorchvisionModel, Variant

suite = Suite(
    name="reference",
    variants={
        "embedded": Variant(
            model=TorchvisionModel("mobilenet_v2", classes=10, weights="embedded:mobilenet_v2_fashion_mnist"),
            data=FashionMNIST(calibration=128, evaluation=1000),
        )
    },
    qconfigs=("x86",),
)
"""
LIMIT_PP = 1.0


@pytest.fixture
def judged(pytester: pytest.Pytester) -> Callable[[], pytest.RunResult]:
    """Runs the accuracy gate on the reference model in this process, so that what is broken here is broken there."""
    for folder in ("suites", "baselines"):
        (pytester.path / folder).mkdir()
    (pytester.path / "suites" / "reference.py").write_text(SUITE, encoding="utf-8")
    limits = {"x86": {"accuracy_drop_pp": LIMIT_PP}}
    baseline = {"schema": 2, "suite": "reference", "data": {"embedded": {"limits": limits}}}
    (pytester.path / "baselines" / "reference.json").write_text(json.dumps(baseline, indent=1), encoding="utf-8")
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:hypothesispytest\nptq_threads = 1\n")
    return lambda: pytester.runpytest_inprocess("--ptq-suite", "reference", "--ptq-metrics", "accuracy")


def _shuffle_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each channel's weights are stored by its neighbour's scale."""
    real = shared.quantize_weight
    monkeypatch.setattr(shared, "quantize_weight", lambda weight, scales: real(weight, scales.roll(1)))


def _halve_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    row = observers.OBSERVERS["histogram"]

    def half(seen: Statistics, bounds: tuple[int, int]) -> tuple[float, float]:
        low, high = row.choose_range(seen, bounds)
        return low / 2, high / 2

    monkeypatch.setitem(observers.OBSERVERS, "histogram", replace(row, choose_range=half))  # type: ignore[arg-type]


def _ignore_zero_points(monkeypatch: pytest.MonkeyPatch) -> None:
    real = kernels.conv2d

    def forgetful(x: Tensor, packed: Tensor, call: tuple[Any, ...], *rest: Any) -> Tensor:
        scale, _, *weights = call
        return real(x, packed, (scale, 0, *weights), *rest)

    monkeypatch.setattr(kernels, "conv2d", forgetful)


@pytest.mark.parametrize("mutate", [_shuffle_scales, _halve_ranges, _ignore_zero_points])
def test_a_broken_engine_fails_the_gate(
    mutate: Callable[[pytest.MonkeyPatch], None],
    judged: Callable[[], pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    result = judged()
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r".*accuracy drop of .* pp .*breaks the limit of at most 1\.00 pp.*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_the_engine_passes_the_gate(judged: Callable[[], pytest.RunResult]) -> None:
    result = judged()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
