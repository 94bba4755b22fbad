"""Fixtures of the plugin's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from plugin.clockwork import Clockwork
from plugin.project import Project


@pytest.fixture(scope="session")
def _heavy() -> None:
    """Import what the inner runs need: modules first met in an inner run are forgotten when it ends.

    So are finders of packages, and `importlib_metadata`, which pygal imports, has one take the place of Python's own.
    """
    import importlib_metadata  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import torchvision  # noqa: F401
    from torch import _dynamo, fx  # noqa: F401

    from pytest_ptq import engine, runner, sources, timing  # noqa: F401
    from pytest_ptq.runtimes import openvino

    openvino._core()  # as a run does it: one for the process, and nothing told to anybody


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs behave the same on a CI service as at home."""
    for name in ("GITHUB_ACTIONS", "GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(_heavy: None, pytester: pytest.Pytester) -> Project:
    return Project(pytester)


@pytest.fixture(autouse=True)
def clockwork(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clockwork]:
    """Inner runs in this process start no others to time models; `clockwork(...)` chooses the times they see."""

    def wind(*int8_ms: Sequence[float], **more: Any) -> Clockwork:
        made = Clockwork(*int8_ms, **more)
        monkeypatch.setattr("pytest_ptq.measure.latency._spawn", made)
        monkeypatch.setattr("pytest_ptq.timing.time_alone", lambda *_, **__: (2.0, 2.0))
        return made

    wind()
    return wind
