"""What a gate item found, and its form while it travels in a test report from a worker of pytest-xdist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_ptq.judge.gates import overall
from pytest_ptq.metrics import Verdict
from pytest_ptq.store.record import QConfigRecord, RunRecord


@dataclass(frozen=True)
class GateResult:
    """One gate of one qconfig.

    Args:
        gate: its name.
        record: what was measured, judged or impossible.
        from_suite: False for a model that a test brings along; such a result has no baseline file.
        nodeid: the test item.
    """

    gate: str
    record: QConfigRecord
    from_suite: bool
    nodeid: str

    @property
    def verdict(self) -> Verdict | None:
        """The most serious verdict; None when nothing could be judged."""
        return overall(self.record.judgements.values())

    def fails(self, *, strict: bool) -> bool:
        """Whether it fails its test; so does what could not be measured or judged."""
        return bool(self.record.errors) or self.verdict is None or verdict_fails(self.verdict, strict=strict)


def verdict_fails(verdict: Verdict, *, strict: bool) -> bool:
    """What is inconclusive fails under `--ptq-strict` only; what fails as expected does not."""
    return verdict in (Verdict.FAIL, Verdict.NO_BASELINE) or (strict and verdict is Verdict.INCONCLUSIVE)


def to_wire(results: Iterable[GateResult]) -> list[dict[str, Any]]:
    """Plain values only: the text of a run record, and what stands beside it."""
    return [
        {
            "gate": result.gate,
            "from_suite": result.from_suite,
            "nodeid": result.nodeid,
            "record": RunRecord(machine={}, versions={}, results=(result.record,)).to_json(),
        }
        for result in results
    ]


def from_wire(wire: Iterable[Mapping[str, Any]]) -> list[GateResult]:
    """The inverse of `to_wire`."""
    return [GateResult(**{**plain, "record": RunRecord.from_json(plain["record"]).results[0]}) for plain in wire]


def merge(results: Iterable[GateResult]) -> tuple[QConfigRecord, ...]:
    """One record for each suite, kind of data and qconfig, in the order in which they were first met."""
    merged: dict[tuple[str, str, str], QConfigRecord] = {}
    for result in results:
        record = result.record
        key = (record.suite, record.data, record.qconfig)
        merged[key] = _joined(merged[key], record) if key in merged else record
    return tuple(merged.values())


def _joined(first: QConfigRecord, second: QConfigRecord) -> QConfigRecord:
    # What could not be measured may not know where it would have run.
    placed = first if first.measurements else second
    return replace(
        first,
        runtime=placed.runtime,
        machine_key=placed.machine_key,
        runtime_ms=placed.runtime_ms,
        runtime_errors=placed.runtime_errors,
        reduce_range=second.reduce_range if first.reduce_range is None else first.reduce_range,
        measurements={**first.measurements, **second.measurements},
        judgements={**first.judgements, **second.judgements},
        fp32_layers=first.fp32_layers or second.fp32_layers,
        worst_layers=first.worst_layers or second.worst_layers,
        errors=tuple(dict.fromkeys((*first.errors, *second.errors))),
        pairs=first.pairs or second.pairs,
    )
