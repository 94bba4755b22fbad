"""What an update changed, in lines for a person: old -> new for each value that is another one now."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_ptq.metrics import Measurement, Metric
from pytest_ptq.speeds import speed_text
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.entries import nearest

NONE = "none"
ABSOLUTE = {"%": "pp", "pp": "pp", "dB": "dB"}
"""Units whose changes are differences, and the unit of such a difference; other values change by a share."""


def changes(
    before: Baselines, after: Baselines, data: str, machine_key: str, qconfig: str, metrics: Iterable[Metric]
) -> list[str]:
    """A heading and a line for each changed limit or record of one qconfig; nothing where nothing changed.

    baseline changes of net[x86] on embedded data, avx512_vnni/onednn/2t/torch2.15:
      + limit accuracy_drop_pp  none    -> 1 pp   to be reviewed
      ~ size_reduction_x        3.90 x  -> 3.81 x   -2.3 %
    """
    rows = []
    for metric in dict.fromkeys(metrics):
        old, new = before.limit(data, qconfig, metric), after.limit(data, qconfig, metric)
        if old is None and new is not None:
            # As it is written: a limit of 0.125 is not one of 0.12.
            rows.append(("+", f"limit {metric.key}", NONE, f"{new.bound:g} {metric.unit}".rstrip(), "to be reviewed"))
    for metric in dict.fromkeys(metrics):
        rows += _records(*(b.records(data, machine_key, qconfig, metric) for b in (before, after)))
    if not rows:
        return []
    name, old_width = (max(len(row[i]) for row in rows) for i in (1, 2))
    lines = [f"  {sign} {key:{name}}  {a:{old_width}} -> {b}   {step}".rstrip() for sign, key, a, b, step in rows]
    return [f"baseline changes of {after.suite}[{qconfig}] on {data} data, {machine_key}:", *lines]


def _records(before: tuple[Measurement, ...], after: tuple[Measurement, ...]) -> list[tuple[str, str, str, str, str]]:
    """What was recorded anew, what at a speed that the file did not know, and what went with it."""
    gone, come = ([m for m in one if m not in other] for one, other in ((before, after), (after, before)))
    rows = []
    for now in come:
        was = nearest(gone, now)
        if was is not None:
            gone.remove(was)
        sign, key, old, new, change = _row(was, now)
        at = speed_text(now.details) if before and was is None else ""
        rows.append((sign, key, old, new, change or at))
    return rows + [("-", was.metric.key, _text(was), NONE, speed_text(was.details)) for was in gone]


def _row(was: Measurement | None, now: Measurement) -> tuple[str, str, str, str, str]:
    if was is None:
        return "+", now.metric.key, NONE, _text(now), ""
    # What is shown alike but is not gets the digits that a file keeps.
    more = 3 if _text(was) == _text(now) else 0
    return "~", now.metric.key, _text(was, more), _text(now, more), step(now.metric, was.value, now.value)


def _text(measurement: Measurement, more: int = 0) -> str:
    metric = measurement.metric
    digits = metric.digits + (more if metric.digits else 0)
    text = f"{measurement.value:.{digits}f} {metric.unit}".rstrip()
    if measurement.low is None or measurement.high is None:
        return text
    return f"{text} [{measurement.low:.{digits}f}, {measurement.high:.{digits}f}]"


def step(metric: Metric, before: float, after: float) -> str:
    """By how much a value changed: percentage points or decibels as such, anything else in percent of `before`."""
    if before == after:
        return ""
    if metric.unit in ABSOLUTE:
        return f"{after - before:+.{metric.digits}f} {ABSOLUTE[metric.unit]}"
    if before == 0:
        return f"{after - before:+.{metric.digits}f} {metric.unit}".rstrip()
    return f"{100 * (after - before) / abs(before):+.1f} %"
