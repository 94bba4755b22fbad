"""Where an int8 model ran, in words."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_ptq.metrics import KERNELS, LATENCY_RATIO, NOT_NATIVE, SQNR, TIMED_BY, TIMED_NOT_NATIVE, Measurement
from pytest_ptq.speeds import speed_text
from pytest_ptq.store.provenance import versions
from pytest_ptq.store.record import QConfigRecord, RunRecord


def told(record: QConfigRecord) -> str:
    """`openvino 2026.4.1`, and how the choice fell where there was one; nothing of torch that nobody chose."""
    if record.runtime == "torch" and not record.runtime_ms:
        return ""
    version = versions([record.runtime]).get(record.runtime, "")
    name = f"{record.runtime} {version}".rstrip()
    return f"{name}, {fastest(record)}" if record.runtime_ms else name


def kernels(measurements: Mapping[str, Measurement]) -> str:
    """`native program`, or `packed torchscript, no compiled kernels: GELU`: int8's; empty where nobody looked.

    Those with which accuracy was judged, or else those that were timed.
    """
    sqnr = measurements.get(SQNR.key)
    if sqnr is not None and KERNELS in sqnr.details:
        return _told(sqnr, KERNELS, NOT_NATIVE)
    return _timed(measurements, "int8")


def is_native(measurements: Mapping[str, Measurement]) -> bool:
    """False where int8 is known to be no program of compiled kernels, though this engine called it."""
    keys = ((SQNR.key, NOT_NATIVE), (LATENCY_RATIO.key, TIMED_NOT_NATIVE["int8"]))
    return not any(key in measurements and detail in measurements[key].details for key, detail in keys)


def timed(measurements: Mapping[str, Measurement]) -> str:
    """`int8 by native program, fp32 by native program`: what was timed; empty where no process told."""
    found = ((precision, _timed(measurements, precision)) for precision in TIMED_BY)
    return "; ".join(f"{precision} by {told}" for precision, told in found if told)


def unlike(measurements: Mapping[str, Measurement]) -> str:
    """What speaks against int8/fp32, where one of the two ran by compiled kernels or called otherwise; else empty."""
    details = measurements[LATENCY_RATIO.key].details if LATENCY_RATIO.key in measurements else {}
    ways = [str(details[key]) for key in TIMED_BY.values() if key in details]
    if len(ways) < len(TIMED_BY) or len({_way(way) for way in ways}) == 1:
        return ""
    return f"{timed(measurements)}: int8/fp32 does not compare like with like"


def _way(kernels: str) -> tuple[bool, str]:
    """Whether they are the compiled ones, and who calls them: torch's own have other names for int8 than for fp32."""
    kind, _, caller = kernels.partition(" ")
    return kind == "native", caller


def _timed(measurements: Mapping[str, Measurement], precision: str) -> str:
    ratio = measurements.get(LATENCY_RATIO.key)
    if ratio is None or TIMED_BY[precision] not in ratio.details:
        return ""
    return _told(ratio, TIMED_BY[precision], TIMED_NOT_NATIVE[precision])


def _told(measurement: Measurement, by: str, not_native: str) -> str:
    why = measurement.details.get(not_native)
    return f"{measurement.details[by]}, no compiled kernels: {why}" if why else str(measurement.details[by])


def ran(record: RunRecord) -> list[tuple[str, str]]:
    """How a run's models ran, as facts of its machine: kernels of int8 and fp32, by suite where they differ; speed."""
    found: dict[str, dict[str, list[str]]] = {}
    for result in record.results:
        name = f"{result.suite}[{result.qconfig}]"
        measured = result.measurements
        ratio = measured.get(LATENCY_RATIO.key)
        for title, told in (
            ("int8 kernels", kernels(measured)),
            ("fp32 kernels", _timed(measured, "fp32")),
            ("speed", speed_text(ratio.details) if ratio else ""),
        ):
            if told:
                found.setdefault(title, {}).setdefault(told, []).append(name)
    return [(title, _shared(ways)) for title, ways in found.items()]


def _shared(ways: Mapping[str, list[str]]) -> str:
    """What holds of all, or else what holds of whom."""
    if len(ways) == 1:
        return next(iter(ways))
    return "; ".join(f"{', '.join(dict.fromkeys(names))}: {way}" for way, names in ways.items())


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
