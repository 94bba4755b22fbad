"""This project's engine as the latency table times it: beside the rivals, in a process of its own like them.

How an int8 model is called is decided in `int8` alone, and how fp32 is in `fp32`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def int8_traced(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """The int8 model without the compiled kernels: torch's own, called from TorchScript."""
    from pytest_ptq import engine

    _without_native()
    return engine.deploy(engine.quantize(model, calibration, "x86"), calibration[0][:1])


def int8_graph(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """The int8 model as it is quantized: torch's own kernels, called from Python."""
    from pytest_ptq import engine

    return engine.quantize(model, calibration, "x86")


def fp32_traced(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """The frozen model without the compiled kernels."""
    from pytest_ptq import engine

    _without_native()
    return engine.deploy(engine.freeze(model), calibration[0][:1])


def _without_native() -> None:
    """In a process that makes one model, and ends."""
    import os

    os.environ["PTQ_NATIVE"] = "0"


def eager(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """The model as torchvision gives it."""
    return model


def matmul(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """No model: the int8 matrix product that oneDNN is best at, as a gauge of what the machine can do just then."""
    import torch

    generator = torch.Generator().manual_seed(0)
    rows, inner, columns = MATMUL_SHAPE
    left = torch.randint(0, 255, (rows, inner), dtype=torch.uint8, generator=generator)
    right = torch.randint(-127, 127, (columns, inner), dtype=torch.int8, generator=generator)
    ops: Any = torch.ops.onednn
    packed = ops.qlinear_prepack(right, [rows, inner])
    scales, zeros = torch.full((columns,), 0.01), torch.zeros(columns, dtype=torch.int64)

    def predict(batch: Tensor) -> Tensor:
        y: Tensor = ops.qlinear_pointwise(
            left, 0.1, 0, packed, scales, zeros, None, 1.0, 0, torch.uint8, "none", [], ""
        )
        return y

    return predict


MATMUL_SHAPE = (512, 1024, 512)
EAGER, FP32, INT8, MATMUL = "eager", "fp32", "int8", "matmul"
LOST = ("int8_traced", "int8_graph", "fp32_traced")
"""Kernels and callers that are not chosen where the compiled ones can be."""
RIVALS = (
    Rival(EAGER, "fp32 as it is", __name__, (), eager),
    Rival(FP32, "fp32 frozen", __name__, (), fp32),
    Rival(INT8, "**int8, this**", __name__, (), int8),
    Rival(MATMUL, "int8 matrix product", __name__, (), matmul),
    Rival(LOST[0], "int8, torch's kernels, traced", __name__, (), int8_traced),
    Rival(LOST[1], "int8, torch's kernels, from Python", __name__, (), int8_graph),
    Rival(LOST[2], "fp32, torch's kernels, traced", __name__, (), fp32_traced),
)
"""Called so because that is where a process of its own looks an engine up."""
