"""torch as a runtime: load, run, threads, describe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_ptq.runtimes.torch import TorchRuntime


def test_it_runs_without_gradients() -> None:
    model, x = nn.Linear(4, 2), torch.randn(3, 4)
    runtime = TorchRuntime()
    assert runtime.load(model) is runtime
    y = runtime.run(x)
    assert not y.requires_grad
    torch.testing.assert_close(y, model(x).detach())


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with TorchRuntime().threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_threads_are_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="inside"), TorchRuntime().threads(before + 1):
        raise ValueError("inside")
    assert torch.get_num_threads() == before


def test_it_describes_itself() -> None:
    assert TorchRuntime().describe() == {"runtime": "torch", "version": torch.__version__, "kernels": "onednn"}
