"""Shared by all tests. Imports no torch: a run that only collects stays light."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run, and no limit in time: machines differ.
settings.register_profile("ptq", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("ptq")

# A shell starts what runs in the background deaf to Ctrl-C, and so would be every process that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small tensors gain nothing from threads, and threads of two processes on the same cores wait for each other.

    Each test begins so: torch may be met later than the first test, and inner runs choose for themselves.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _alone() -> Iterator[None]:
    """No inner run takes itself for a worker where these tests run on one (`-n`): pytest-benchmark goes by this."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _compiled_once() -> Iterator[None]:
    """Inner runs have a home of their own each; the C compiler need not run for every one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
        yield
