"""This project's engine as the latency table times it: beside the rivals, in a process of its own like them.

How an int8 model is called is decided in `int8` alone, and how fp32 is in `fp32`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.rivals.rival import Predict, Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


def int8(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """What `engine.quantize` returns, deployed."""
    from pytest_ptq import engine

    return engine.deploy(engine.quantize(model, calibration, "x86"), calibration[0][:1])


def fp32(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """What int8 latency is held against: the frozen form, deployed alike."""
    from pytest_ptq import engine

    return engine.deploy(engine.freeze(model), calibration[0][:1])


def eager(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """The model as torchvision gives it."""
    return model


EAGER, FP32, INT8 = "eager", "fp32", "int8"
RIVALS = (
    Rival(EAGER, "fp32 as it is", __name__, (), eager),
    Rival(FP32, "fp32 frozen", __name__, (), fp32),
    Rival(INT8, "**int8, this**", __name__, (), int8),
)
"""Called so because that is where a process of its own looks an engine up."""
