"""Where an int8 model ran, in words."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_ptq.metrics import KERNELS, NOT_NATIVE, SQNR, Measurement
from pytest_ptq.store.provenance import versions
from pytest_ptq.store.record import QConfigRecord


def told(record: QConfigRecord) -> str:
    """`openvino 2026.4.1`, and how the choice fell where there was one; nothing of torch that nobody chose."""
    if record.runtime == "torch" and not record.runtime_ms:
        return ""
    version = versions([record.runtime]).get(record.runtime, "")
    name = f"{record.runtime} {version}".rstrip()
    return f"{name}, {fastest(record)}" if record.runtime_ms else name


def kernels(measurements: Mapping[str, Measurement]) -> str:
    """`native program`, or `packed torchscript, no compiled kernels: GELU`; empty where nobody looked."""
    sqnr = measurements.get(SQNR.key)
    if sqnr is None or KERNELS not in sqnr.details:
        return ""
    why = sqnr.details.get(NOT_NATIVE)
    return f"{sqnr.details[KERNELS]}, no compiled kernels: {why}" if why else str(sqnr.details[KERNELS])


def fastest(record: QConfigRecord) -> str:
    """`openvino is the fastest: 0.31 ms, onnxruntime 0.40, torch 0.52`: int8, medians.

    `torch is as fast as any` where another's median is smaller by no more than the measurement tells.
    """
    ranked = sorted(record.runtime_ms.items(), key=lambda item: item[1])
    figures = ", ".join(f"{name} {ms:.2f}" for name, ms in ranked if name != record.runtime)
    beaten = record.runtime_ms[record.runtime] > ranked[0][1]
    rank = "as fast as any" if beaten else "the fastest"
    mine = f"{record.runtime} is {rank}: {record.runtime_ms[record.runtime]:.2f} ms"
    failed = "".join(f"; {name} does not run it: {why}" for name, why in record.runtime_errors.items())
    return (f"{mine}, {figures}" if figures else mine) + failed
