"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.nets import images, partly_fp32_net
from pytest_ptq import engine


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and threads of two processes on the same cores wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return engine.save(engine.quantize(partly_fp32_net(), [images()]), tmp_path / "model.safetensors")
