"""TorchScript files in torch: what they answer, with which kernels, and what is said of one that is none."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pytest_ptq import engine
from pytest_ptq.errors import InferenceError
from pytest_ptq.runtimes import TORCH


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def scripted(model: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.trace(model, torch.rand(2, 3, 8, 8)), str(path))  # type: ignore[no-untyped-call]
    return path


def test_a_float_program(tmp_path: Path) -> None:
    x, threads = torch.rand(5, 3, 8, 8), torch.get_num_threads()
    session = TORCH.load(scripted(net(), tmp_path / "m.pt"), 1)
    found = session.run(x.numpy())
    with torch.inference_mode():
        assert np.allclose(found, net()(x).numpy(), atol=1e-6)
    assert torch.get_num_threads() == threads
    counts = session.kernels()
    assert (len(counts.weighted_int8), len(counts.weighted)) == (0, 2)


def test_an_int8_program_of_this_engine(tmp_path: Path) -> None:
    quantized = engine.quantize(net(), [torch.rand(8, 3, 8, 8)])
    x = torch.rand(2, 3, 8, 8)
    path = engine.save_torchscript(quantized, tmp_path / "m.pt", x)
    session = TORCH.load(path, 1)
    assert np.abs(np.asarray(session.run(x.numpy())) - quantized(x).numpy()).max() < 0.05
    counts = session.kernels()
    assert (len(counts.weighted_int8), len(counts.weighted)) == (2, 2)


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(b"nonsense")
    with pytest.raises(InferenceError, match="torch cannot load the model: ") as caught:
        TORCH.load(path, 1)
    assert "\n" not in str(caught.value)


def test_an_input_that_it_refuses(tmp_path: Path) -> None:
    session = TORCH.load(scripted(net(), tmp_path / "m.pt"), 1)
    with pytest.raises(InferenceError, match=r"torch cannot run the model.*channels"):
        session.run(np.zeros((1, 5, 8, 8), np.float32))
