"""The test functions that a suite's module is made of.

They are copied into the module of every selected suite, so that fixtures, marks, `-k`, `-m` and reports treat them as
the suite's own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ptq.plugin.gates import ACCURACY, AGREEMENT, COVERAGE, LATENCY, SIZE, Gate
from pytest_ptq.plugin.publish import publish

if TYPE_CHECKING:
    from pytest_ptq.plugin.check import Check


def test_accuracy(ptq_check: Check) -> None:
    """int8 loses no more top-1 accuracy than its limit allows."""
    ptq_check(ACCURACY.name)


def test_size(ptq_check: Check) -> None:
    """int8 is smaller than fp32 by at least the limit's factor."""
    ptq_check(SIZE.name)


def test_int8_coverage(ptq_check: Check) -> None:
    """At least the limit's share of multiply-accumulates runs in int8, with no needless conversion between."""
    ptq_check(COVERAGE.name)


def test_agreement(ptq_check: Check) -> None:
    """Another runtime answers what torch does of the same int8 model, within the limit's steps and flips."""
    ptq_check(AGREEMENT.name)


def test_latency(request: pytest.FixtureRequest, ptq_check: Check, benchmark: Any) -> None:
    """int8 is faster than a fair fp32 by at least the limit's ratio; pytest-benchmark gets the samples."""
    publish(request.node, benchmark, ptq_check)
    ptq_check(LATENCY.name)


def _test_latency_alone(ptq_check: Check) -> None:
    """The latency gate where pytest-benchmark is absent."""
    ptq_check(LATENCY.name)


def gate_tests(*, benchmark: bool) -> Mapping[str, tuple[Gate, Callable[..., None]]]:
    """Test name -> gate and function, in the order they run. `benchmark`: pytest-benchmark is there."""
    return {
        "test_accuracy": (ACCURACY, test_accuracy),
        "test_size": (SIZE, test_size),
        "test_int8_coverage": (COVERAGE, test_int8_coverage),
        "test_agreement": (AGREEMENT, test_agreement),
        "test_latency": (LATENCY, test_latency if benchmark else _test_latency_alone),
    }
