"""Where an int8 model ran, in words."""

from __future__ import annotations

import pytest

from pytest_ptq.metrics import LATENCY_RATIO, SQNR, Measurement
from pytest_ptq.report.where import fastest, is_native, kernels, timed, unlike
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


def ratio(**details: str) -> dict[str, Measurement]:
    return {LATENCY_RATIO.key: Measurement(LATENCY_RATIO, 0.5, details=details)}


def test_kernels_that_were_timed_stand_in_for_those_that_were_judged() -> None:
    found = ratio(int8_kernels="packed torchscript", int8_not_native="GELU")
    assert kernels(found) == "packed torchscript, no compiled kernels: GELU"
    assert not is_native(found)
    assert is_native(ratio(int8_kernels="native program"))
    assert is_native({})
    judged = {SQNR.key: Measurement(SQNR, 30.0, details={"kernels": "native program"})}
    assert kernels({**found, **judged}) == "native program"
    assert timed({**found, **judged}) == "int8 by packed torchscript, no compiled kernels: GELU"


@pytest.mark.parametrize(
    ("int8", "fp32", "alike"),
    [
        ("native program", "native program", True),
        ("packed torchscript", "float torchscript", True),
        ("plain torchscript", "float torchscript", True),
        ("native program", "float torchscript", False),
        ("plain torchscript", "native program", False),
        ("plain python", "float torchscript", False),
    ],
)
def test_models_that_ran_alike_and_unlike(int8: str, fp32: str, alike: bool) -> None:
    found = unlike(ratio(int8_kernels=int8, fp32_kernels=fp32))
    assert found == ("" if alike else f"int8 by {int8}; fp32 by {fp32}: int8/fp32 does not compare like with like")


def test_what_one_of_them_does_not_tell_is_not_unlike() -> None:
    assert unlike(ratio(fp32_kernels="native program")) == unlike({}) == ""
