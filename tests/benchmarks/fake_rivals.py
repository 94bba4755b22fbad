"""Engines that do what engines do at their worst. The process of a rival imports this."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import torch

from benchmarks.rivals.rival import Predict, Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


def coarse(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """A quantizer that cannot do much: logits in steps of a 50th of the largest one seen in calibration."""
    assert settings.threads == 1 == torch.get_num_threads()
    step = max(float(model(batch).abs().max()) for batch in calibration) / 50
    return lambda batch: (model(batch) / step).round() * step


def crashing(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def raising(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    raise ValueError("no kernel for this layer.\nAnd more of it.")


def leaving(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    os._exit(0)


def cutting(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    return lambda batch: model(batch)[:, :3]


def not_a_number(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    return lambda batch: model(batch) * float("nan")


RIVALS = (
    Rival("coarse", "Coarse steps", __name__, ("torch",), coarse),
    Rival("crashing", "Crash", __name__, (), crashing),
    Rival("raising", "Exception", __name__, (), raising),
    Rival("leaving", "Silence", __name__, (), leaving),
    Rival("cutting", "Other shape", __name__, (), cutting),
    Rival("nan", "Not a number", __name__, (), not_a_number),
    Rival("missing", "Not there", __name__, ("torch", "ptq-no-such-package"), coarse),
)
