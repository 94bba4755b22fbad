"""Fixtures of the plugin's tests."""

from __future__ import annotations

import pytest

from plugin.project import Project


@pytest.fixture(scope="session")
def _heavy() -> None:
    """Import what the inner runs need: modules first met in an inner run are forgotten when it ends."""
    import torchvision  # noqa: F401
    from torch import _dynamo, fx  # noqa: F401


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs behave the same on a CI service as at home."""
    for name in ("GITHUB_ACTIONS", "GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(_heavy: None, pytester: pytest.Pytester) -> Project:
    return Project(pytester)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency with as few pairs as it takes to have an interval; what is timed does not matter here."""
    monkeypatch.setattr("pytest_ptq.measure.latency.MAX_PAIRS", 10)
    monkeypatch.setattr("pytest_ptq.measure.latency.WARMUP_S", 0.0)
