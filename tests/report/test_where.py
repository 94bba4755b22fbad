"""Where an int8 model ran, in words."""

from __future__ import annotations

import pytest

from pytest_ptq.metrics import SQNR, Measurement
from pytest_ptq.report.where import fastest, kernels
from pytest_ptq.store.record import QConfigRecord

WHY = {"kernels": "packed torchscript", "not_native": "GELU"}


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("openvino", "openvino is the fastest: 1.00 ms, torch 1.03"),
        ("torch", "torch is as fast as any: 1.03 ms, openvino 1.00"),
    ],
)
def test_the_choice_and_all_that_it_fell_between(runtime: str, said: str) -> None:
    record = QConfigRecord(
        "tiny", "own", "x86-fastest", False, {}, {}, runtime=runtime, runtime_ms={"torch": 1.03, "openvino": 1.0}
    )
    assert fastest(record) == said


def test_kernels_and_why_they_are_not_compiled_ones() -> None:
    def of(**details: str) -> str:
        return kernels({SQNR.key: Measurement(SQNR, 30.0, details=details)})

    assert of(kernels="native program") == "native program"
    assert of(**WHY) == "packed torchscript, no compiled kernels: GELU"
    assert of() == kernels({}) == ""
