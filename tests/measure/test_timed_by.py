"""By which kernels models were timed, as the processes that timed them tell."""

from __future__ import annotations

from types import SimpleNamespace

from pytest_ptq.measure.timed_by import kernels_of, timed_by

NATIVE = SimpleNamespace(kernels="native", caller="program", not_native="")
PACKED = SimpleNamespace(kernels="packed", caller="torchscript", not_native="it has a GELU")


def test_deployed_models_tell_and_others_do_not() -> None:
    kernels, why = kernels_of({"int8": PACKED, "fp32": NATIVE, "theirs": lambda x: x})
    assert kernels == {"int8": "packed torchscript", "fp32": "native program"}
    assert why == {"int8": "it has a GELU"}


def test_what_all_processes_tell_is_told_once() -> None:
    told = kernels_of({"int8 x86": PACKED, "fp32": NATIVE})
    assert timed_by("int8 x86", "fp32", [told, told]) == {
        "int8_kernels": "packed torchscript", "int8_not_native": "it has a GELU", "fp32_kernels": "native program",
    }  # fmt: skip
    assert timed_by("another", "fp32", [told]) == {"fp32_kernels": "native program"}
    assert timed_by("int8", "fp32", [({}, {})]) == {}


def test_processes_that_differ_are_all_told() -> None:
    """A compiler that comes or goes between them."""
    found = timed_by("int8", "fp32", [kernels_of({"int8": NATIVE}), kernels_of({"int8": PACKED})])
    assert found == {"int8_kernels": "native program or packed torchscript", "int8_not_native": "it has a GELU"}
