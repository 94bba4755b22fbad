"""Fixtures for a user's own tests, and for the gates. What is heavy is built once a session, when first asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from pytest_ptq.errors import UsageError
from pytest_ptq.measure.machine import Machine
from pytest_ptq.plugin.check import Check
from pytest_ptq.plugin.fastest import settled
from pytest_ptq.plugin.marker import Marker, read_marker
from pytest_ptq.plugin.parametrize import qconfigs_of, selections_of
from pytest_ptq.plugin.selection import Selection
from pytest_ptq.plugin.session import session_of
from pytest_ptq.qconfig import QConfig
from pytest_ptq.suite import Suite

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pytest_ptq.measure.latency import LatencySamples
    from pytest_ptq.runner import SuiteRun


@pytest.fixture
def _ptq_selection(request: pytest.FixtureRequest) -> Selection | None:
    """The suite that the test is about, as this session runs it; None for a test with a model of its own."""
    selections = selections_of(request.node)
    if not hasattr(request, "param"):
        return selections[0] if selections else None
    return next(s for s in selections if s.suite.name == request.param)


@pytest.fixture
def _ptq_run(request: pytest.FixtureRequest, _ptq_selection: Selection | None) -> SuiteRun:
    if _ptq_selection is None:
        raise UsageError(
            "the test is about no suite",
            place=request.node.nodeid,
            remedy="Run with --ptq-suite NAME, or write @pytest.mark.ptq(suite='NAME').",
        )
    return session_of(request.config).run(_ptq_selection)


@pytest.fixture
def ptq_suite(_ptq_run: SuiteRun) -> Suite:
    """The suite that was selected, or that the test's marker names."""
    return _ptq_run.suite


@pytest.fixture
def ptq_model(_ptq_run: SuiteRun) -> nn.Module:
    """The suite's fp32 model, in eval mode with its weights. Shared: do not change it."""
    return _ptq_run.model


@pytest.fixture
def ptq_calibration_data(_ptq_run: SuiteRun) -> Iterable[Tensor]:
    """Calibration batches, float32 (N, C, H, W); can be iterated many times."""
    return _ptq_run.dataset.calibration()


@pytest.fixture
def ptq_eval_data(_ptq_run: SuiteRun) -> Iterable[tuple[Tensor, Tensor]]:
    """Evaluation batches: input and labels (N,); can be iterated many times."""
    return _ptq_run.dataset.evaluation()


@pytest.fixture
def ptq_qconfig(request: pytest.FixtureRequest, _ptq_selection: Selection | None) -> QConfig:
    """The QConfig of this item; using it runs the test once for each of them."""
    found = {q.name: q for q in qconfigs_of(request.node, _ptq_selection)}
    if not hasattr(request, "param"):
        raise UsageError(
            "no qconfig is selected",
            place=request.node.nodeid,
            remedy="Run with --ptq-suite NAME, or write @pytest.mark.ptq(qconfigs=['x86']).",
        )
    return found[request.param]


@pytest.fixture
def ptq_quantized(_ptq_run: SuiteRun, ptq_qconfig: QConfig) -> nn.Module:
    """The suite's int8 model for this qconfig: quantized once, shared with the gates."""
    return _ptq_run.quantized(ptq_qconfig)


@pytest.fixture
def ptq_latency(
    request: pytest.FixtureRequest, _ptq_selection: Selection | None, _ptq_run: SuiteRun, ptq_qconfig: QConfig
) -> LatencySamples:
    """Interleaved fp32 and int8 latency samples of the suite, in ms, measured once and shared with the gate."""
    session = session_of(request.config)
    session.refuse_latency_beside_others()
    assert _ptq_selection is not None  # without one there is no run
    return _ptq_run.latency_samples(settled(session, _ptq_selection, _ptq_run, ptq_qconfig))


@pytest.fixture
def ptq_check(request: pytest.FixtureRequest, _ptq_selection: Selection | None, ptq_qconfig: QConfig) -> Check:
    """Holds a suite's metric, or a model of the test's own, against its limits; see `Check.__call__`."""
    marker = read_marker(request.node) or Marker()
    return Check(session_of(request.config), request.node, _ptq_selection, ptq_qconfig, marker)


@pytest.fixture(scope="session")
def ptq_machine(request: pytest.FixtureRequest) -> Machine:
    """CPU, instruction set, threads and versions that this session measures with."""
    return session_of(request.config).machine
