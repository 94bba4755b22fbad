"""A model that takes no time, and engines that do what engines do at their worst. Their processes import this."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import torch

from benchmarks.rivals.rival import Predict, Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


def build(name: str) -> nn.Module:
    assert name == "tiny"
    return torch.nn.Linear(4, 2).eval()


def images() -> list[Tensor]:
    return [torch.ones(1, 4)]


def steady(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    assert settings.compiled
    assert settings.threads == 1 == torch.get_num_threads()
    print("what an engine says is no answer")
    os.write(1, b"nor is this\n")
    model.kernels, model.caller = "fast", "called"  # type: ignore[assignment]
    return model


def raising(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    raise ValueError("no kernel for this layer.\nAnd more of it.")


def crashing(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hanging(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    time.sleep(600)
    raise AssertionError


def leaving(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """Runs until it is warm, and no further."""
    left = iter(range(8))

    def predict(batch: Tensor) -> Tensor:
        if next(left, None) is None:
            os._exit(3)
        return model(batch)

    return predict


def not_finite(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    return lambda batch: model(batch) * float("nan")


RIVALS = tuple(
    Rival(engine.__name__, engine.__name__.title(), __name__, (), engine)
    for engine in (steady, raising, crashing, leaving, not_finite, hanging)
)
