"""Fixtures of the engine's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.nets import images, partly_fp32_net
from pytest_ptq import engine


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return engine.save(engine.quantize(partly_fp32_net(), [images()]), tmp_path / "model.safetensors")
