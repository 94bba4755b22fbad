"""The header and the table that a run shows in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from pytest_ptq import metrics as m
from pytest_ptq.judge.gates import REFRESH, SEVERITY, overall
from pytest_ptq.metrics import Judgement, Measurement, Metric, Verdict
from pytest_ptq.report.beside import calibration, limits_of, own_metrics
from pytest_ptq.report.printable import printable
from pytest_ptq.report.where import fastest, is_native, kernels, unlike
from pytest_ptq.store.record import QConfigRecord

SuiteRow: TypeAlias = QConfigRecord
"""A row of the table: what one suite did with one qconfig."""

GATE_OF: Mapping[str, str] = {
    m.ACCURACY_DROP.key: "accuracy",
    m.SIZE_REDUCTION.key: "size",
    m.LATENCY_RATIO.key: "latency",
    m.INT8_MACS.key: "coverage",
    m.QDQ_PAIRS.key: "coverage",
    m.INT8_KERNELS.key: "coverage",
    m.INT8_SHARE.key: "coverage",
    m.AGREEMENT_STEPS.key: "agreement",
    m.AGREEMENT_FLIPS.key: "agreement",
}
"""The gate whose own a metric is, as `--ptq-metrics` calls it."""

SHORT: Mapping[str, str] = {
    m.ACCURACY_DROP.key: "drop",
    m.SIZE_REDUCTION.key: "size",
    m.LATENCY_RATIO.key: "ratio",
    m.INT8_MACS.key: "macs",
    m.QDQ_PAIRS.key: "pairs",
    m.INT8_SHARE.key: "kernels",
    m.AGREEMENT_STEPS.key: "steps",
    m.AGREEMENT_FLIPS.key: "flips/torch",
}
"""What a metric is called in the narrow column that compares with the baseline."""

HEADERS = (
    "qconfig",
    "top-1 %\nfp32 ->{gap}int8",
    "drop pp\n/ limit",
    "flips\n%",
    "SQNR\ndB",
    "MiB\nfp32 ->{gap}int8{gap}(x)",
    "ms\nfp32{gap}/ int8",
    "int8/fp32\n[95 % CI]{gap}/ limit",
    "vs\nbaseline",
    "verdict",
)
ABSENT = "-"
NOTED = (Verdict.INCONCLUSIVE, Verdict.NO_BASELINE, Verdict.XFAIL)
"""Verdicts whose reason is told below the table; a failed test tells its own."""
NARROW = 140
"""Below this many columns, long cells are broken into lines."""


def gate_of(key: str) -> str:
    """The gate that measures a metric. A user's own belong to accuracy."""
    if key in m.METRICS and key.startswith(("size_", "latency_")):
        return key.partition("_")[0]
    return GATE_OF.get(key, "accuracy")


def header(
    *,
    suite: str,
    data: str,
    isa: str,
    threads: int,
    baseline: str,
    engine: str = "x86/onednn",
    runtimes: Sequence[str] = (),
) -> str:
    """The line at the start of a run: what is judged, on what, against what. Runtimes unless that is torch alone."""
    words = {"suite": suite, "data": data, "engine": engine}
    words |= {"runtime": ",".join(runtimes)} if set(runtimes) - {"torch"} else {}
    words |= {"isa": isa, "threads": str(threads), "baseline": baseline}
    return "ptq: " + " ".join(f"{key}={printable(str(value))}" for key, value in words.items())


def table(rows: Sequence[SuiteRow], width: int | None = None) -> str:
    """All rows, the failing ones first. What was not measured or judged shows "-".

    Args:
        rows: one for each suite and qconfig.
        width: columns of the terminal; below 140, long cells are broken into lines.
    """
    from tabulate import tabulate

    gap = "\n" if width is not None and width < NARROW else " "
    several = len({(row.suite, row.data) for row in rows}) > 1
    ordered = sorted(rows, key=seriousness)
    cells = [[_name(row, several), *figures(row, gap), _drifts(row), _verdict(row)] for row in ordered]
    headers = [title.format(gap=gap) for title in HEADERS]
    return tabulate(cells, headers=headers, tablefmt="simple", disable_numparse=True)


def notes(rows: Sequence[SuiteRow]) -> list[str]:
    """A sentence for whatever the table shows too briefly or not at all.

    Errors, open questions, expected failures, baselines to refresh, metrics of a user's own, classes that calibration
    never saw, models that are no programs of compiled kernels, int8 and fp32 that were not timed alike.
    """
    found: list[str] = []
    ordered = sorted(rows, key=seriousness)
    for row in ordered:
        name = f"{row.suite}[{row.qconfig}]"
        found += [f"{name}: {error}" for error in row.errors]
        found += [f"{name}: {fastest(row)}"] if row.runtime_ms else []
        for judgement in row.judgements.values():
            if judgement.verdict in NOTED or REFRESH in judgement.reason:
                found.append(f"{name}: {judgement.reason}")
        for title, text, keys in own_metrics(row.measurements):
            found.append(f"{name}: {title} {text}{limits_of(keys, row.judgements)}")
        seen = row.measurements.get(m.CALIBRATION_CLASSES.key)
        if seen is not None and "unseen_classes" in seen.details:
            found.append(f"{row.suite} on {row.data} data: calibrated {calibration(row.measurements)}")
        found += [f"{name}: {how}"] if (how := unlike(row.measurements)) else []
    found += _not_native(ordered)
    return list(dict.fromkeys(printable(note) for note in found))


def _not_native(rows: Sequence[SuiteRow]) -> list[str]:
    """Which int8 models were no programs of compiled kernels, those of one reason together: it may be the machine's."""
    alike: dict[str, list[str]] = {}
    for row in rows:
        if not is_native(row.measurements) and not unlike(row.measurements):  # what is unlike tells its reason itself
            alike.setdefault(kernels(row.measurements), []).append(f"{row.suite}[{row.qconfig}]")
    return [f"{', '.join(dict.fromkeys(names))}: int8 by {how}" for how, names in alike.items()]


def seriousness(row: SuiteRow) -> int:
    """Rows that could not be measured, then by verdict; the order of equals stays."""
    if row.errors:
        return -1
    verdict = overall(row.judgements.values())
    return SEVERITY.index(verdict) if verdict else len(SEVERITY)


def _name(row: SuiteRow, several: bool) -> str:
    name = f"{printable(row.suite)}\n[{printable(row.qconfig)}]" if several else printable(row.qconfig)
    return f"{name}\n({row.runtime})" if row.runtime_ms else name


def figures(row: SuiteRow, gap: str) -> list[str]:
    """The seven cells between name and comparison."""
    return [
        _joined(f" ->{gap}", _value(row, m.TOP1_FP32), _value(row, m.TOP1_INT8)),
        _joined(" / ", _value(row, m.ACCURACY_DROP), _limit(row, m.ACCURACY_DROP)),
        _value(row, m.FLIPS),
        _value(row, m.SQNR),
        _size(row, gap),
        _joined(f"{gap}/ ", _value(row, m.LATENCY_FP32, 2), _value(row, m.LATENCY_INT8, 2)),
        _ratio(row, gap),
    ]


def _value(row: SuiteRow, metric: Metric, digits: int | None = None) -> str:
    measured = row.measurements.get(metric.key)
    return ABSENT if measured is None else f"{measured.value:.{metric.digits if digits is None else digits}f}"


def _limit(row: SuiteRow, metric: Metric) -> str:
    judgement = row.judgements.get(metric.key)
    if judgement is None or judgement.limit is None:
        return ABSENT
    # As it was written, but never rounded to something else: a limit of 0.125 is not one of 0.12.
    return f"{judgement.limit.bound:.{metric.digits}f}" if metric.digits < 2 else f"{judgement.limit.bound:g}"


def _joined(mark: str, *parts: str) -> str:
    return ABSENT if set(parts) == {ABSENT} else mark.join(parts)


def _size(row: SuiteRow, gap: str) -> str:
    sizes = [row.measurements.get(metric.key) for metric in (m.SIZE_FP32, m.SIZE_INT8)]
    mib = [ABSENT if size is None else f"{size.value / 2**20:.1f}" for size in sizes]
    factor = _value(row, m.SIZE_REDUCTION)
    return _joined(gap, _joined(f" ->{gap}", *mib), ABSENT if factor == ABSENT else f"({factor}x)")


def _ratio(row: SuiteRow, gap: str) -> str:
    measured = row.measurements.get(m.LATENCY_RATIO.key)
    if measured is None:
        return ABSENT
    parts = [_value(row, m.LATENCY_RATIO)]
    if measured.low is not None and measured.high is not None:
        parts.append(f"[{measured.low:.3f}, {measured.high:.3f}]")
    return gap.join([*parts, f"/ {_limit(row, m.LATENCY_RATIO)}"])


def _drifts(row: SuiteRow) -> str:
    """How far each judged value is from its record, a line each."""
    if not row.judgements:
        return ABSENT
    lines = [_drift(j.measurement, j.recorded) for j in row.judgements.values() if j.recorded is not None]
    return "\n".join(lines) or "no record:\nnot judged"


def _drift(now: Measurement, then: Measurement) -> str:
    name = SHORT.get(now.metric.key, printable(now.metric.title))
    if now.metric.key == m.LATENCY_RATIO.key and then.value:
        return f"{name} {100 * (now.value / then.value - 1):+.0f} %"
    return f"{name} {now.value - then.value:+.{now.metric.digits}f}"


def _verdict(row: SuiteRow) -> str:
    """The row's verdict, and below it the gates that it comes from unless they all passed."""
    if row.errors:
        return "ERROR"
    verdict = overall(row.judgements.values())
    if verdict is None:
        return ABSENT
    if verdict is Verdict.PASS:
        better = any(REFRESH in judgement.reason for judgement in row.judgements.values())
        return f"{verdict.value}\n(refresh)" if better else str(verdict.value)
    guilty = [_gate(j) for j in row.judgements.values() if j.verdict is verdict]
    return "\n".join([verdict.value, *dict.fromkeys(guilty)])


def _gate(judgement: Judgement) -> str:
    metric = judgement.measurement.metric
    return GATE_OF.get(metric.key, printable(metric.title))
