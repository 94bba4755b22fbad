"""One recorded value as it stands in a baseline file, and those beside it that were recorded at other speeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_ptq.metrics import Measurement, Metric
from pytest_ptq.speeds import distance, speed_changes
from pytest_ptq.store.baseline_format import COUNTS, MICROSECONDS, NUMBERS, OTHER_SPEEDS, TEXTS, TIMED
from pytest_ptq.store.provenance import Provenance

Entry = Mapping[str, Any]
MEASURED = (*NUMBERS, *COUNTS, *MICROSECONDS, *TIMED)
"""What is part of the value; the rest tells where it comes from."""


def to_entry(measurement: Measurement, provenance: Provenance | None) -> dict[str, Any]:
    """A recorded value, rounded three digits finer than it is shown: noise beyond that only makes diffs long."""
    digits, details = measurement.metric.digits, measurement.details
    entry: dict[str, Any] = {}
    for key in NUMBERS:
        number = getattr(measurement, key)
        if number is not None:
            entry[key] = round(number) if digits == 0 else round(number, digits + 3) + 0.0
    if measurement.samples is not None:
        entry["samples"] = measurement.samples
    entry |= {key: round(float(details[key])) for key in COUNTS[1:] if key in details}
    entry |= {key: float(f"{float(details[key]):.3g}") for key in MICROSECONDS if key in details}
    entry |= {key: str(details[key]) for key in TIMED if key in details}
    if provenance is not None:
        entry["date"] = provenance.date
        if provenance.commit is not None:
            entry["commit"] = provenance.commit
        entry["versions"] = provenance.versions
    return entry


def each_speed(entry: Entry) -> list[dict[str, Any]]:
    """The entry by itself, and those at other speeds."""
    return [{key: value for key, value in entry.items() if key != OTHER_SPEEDS}, *entry.get(OTHER_SPEEDS, ())]


def to_measurements(metric: Metric, entry: Entry) -> tuple[Measurement, ...]:
    """What was recorded, with its provenance in `details`: the first one, and those at other speeds."""
    return tuple(_measurement(metric, one) for one in each_speed(entry))


def nearest(records: Sequence[Measurement], like: Measurement | None) -> Measurement | None:
    """Of the records, the one at the speed that is nearest to that of `like`; the first one of equals."""
    if like is None:
        return records[0] if records else None
    return min(records, key=lambda record: distance(like, record), default=None)


def at_speed_of(records: Sequence[Measurement], like: Measurement) -> bool:
    """Whether one of the records was made at the speed of `like`, as far as both tell theirs."""
    return any(not speed_changes(like, record) for record in records)


def replaced(old: Entry, new: dict[str, Any]) -> Entry:
    """`new` for all that there was, unless it says what `old` does: that keeps its provenance, and what is beside it.

    What was recorded at other speeds goes: it is not known to hold any more.
    """
    return old if all(old.get(part) == new.get(part) for part in MEASURED) else new


def beside(old: Entry, new: dict[str, Any]) -> Entry:
    """`old` with `new` as one more of its other speeds."""
    return {**old, OTHER_SPEEDS: [*old.get(OTHER_SPEEDS, ()), new]}


def _measurement(metric: Metric, entry: Entry) -> Measurement:
    value, low, high = (None if entry.get(key) is None else float(entry[key]) for key in NUMBERS)
    details = {key: entry[key] for key in (*COUNTS[1:], *MICROSECONDS, *TIMED, *TEXTS) if key in entry}
    return Measurement(metric, float(value or 0.0), low, high, entry.get("samples"), details)
