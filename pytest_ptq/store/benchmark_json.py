"""Files that pytest-benchmark writes -> run records, so that both stand in one history.

A benchmark has neither suite nor qconfig: its test is the suite, its group of parameters the qconfig. A latency that
pytest-ptq published there (its `extra_info` says so) is a latency again. Such records have machine keys of their own:
what pytest-benchmark says of a machine is not what our keys are made of, and series never mix keys.

Format: https://pytest-benchmark.readthedocs.io, `--benchmark-json` and `--benchmark-save`, versions 4 and 5.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from pytest_ptq.errors import StoreError
from pytest_ptq.metrics import LATENCY_FP32, LATENCY_INT8, LATENCY_RATIO, Direction, Measurement, Metric
from pytest_ptq.store.record import QConfigRecord, RunRecord
from pytest_ptq.store.strict_json import JSONError, load

KIND = "benchmark"
"""The kind of data of what is imported."""
PLAIN = "-"
"""The qconfig of a benchmark without parameters."""
MEDIAN = Metric("benchmark_median_us", "median time", "us", Direction.LOWER_IS_BETTER, 3)
TITLE = " int8 latency"
"""Behind the suite's name, in the group of a published latency."""
STATISTICS = ("min", "max", "mean", "stddev", "iqr")
"""Of pytest-benchmark's own, in seconds, what is kept beside the median."""


def record_of_benchmarks(text: str, place: str | None = None) -> RunRecord:
    """The run that a file of pytest-benchmark tells of; the same text gives the same run.

    No interval is made up: the rounds of one process are not independent of one another.

    Raises StoreError, naming `place`: not such a file, damaged, a time that is not finite.
    """
    try:
        tree = load(text)
        commit = tree.get("commit_info") or {}
        return RunRecord(
            machine=_machine(tree["machine_info"]),
            versions=_versions(tree),
            results=tuple(_result(benchmark) for benchmark in tree["benchmarks"]),
            commit=_commit(commit),
            time=_time(tree["datetime"]),
            run_id=hashlib.sha256(text.encode()).hexdigest()[:12],
            branch=_known(commit.get("branch")),
            commit_time=_time(commit["time"]) if commit.get("time") else None,
        )
    except JSONError as error:
        raise StoreError(error.message, place=place and f"{place}:{error.line}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        message = f"this is not a file of pytest-benchmark ({type(error).__name__}: {error})"
        raise StoreError(message, place=place, remedy="Write one with pytest --benchmark-json FILE.") from error


def _time(text: str) -> datetime:
    """Those without a time zone are UTC: pytest-benchmark wrote them so."""
    found = datetime.fromisoformat(text)
    return found if found.utcoffset() is not None else found.replace(tzinfo=UTC)


def _commit(found: Mapping[str, Any]) -> str | None:
    name = _known(found.get("id"))
    return f"{name}-dirty" if name and found.get("dirty") else name


def _known(name: object) -> str | None:
    """None for what pytest-benchmark writes where there is no name."""
    unknown = ("", "unknown", "(unknown)", "unversioned", "(detached head)")
    return name if isinstance(name, str) and name not in unknown else None


def _machine(found: Mapping[str, Any]) -> dict[str, str | int | bool]:
    cpu = str(found.get("cpu", {}).get("brand_raw") or found.get("processor") or "unknown")
    minor = ".".join(str(found["python_version"]).split(".")[:2])
    key = f"pytest-benchmark/{found['system']}/{cpu}/{found['python_implementation']} {minor}"
    return {"key": key, "cpu": cpu, "os": f"{found['system']} {found['release']}", "python": found["python_version"]}


def _versions(tree: Mapping[str, Any]) -> dict[str, str]:
    return {"pytest-benchmark": str(tree["version"]), "python": str(tree["machine_info"]["python_version"])}


def _result(found: Mapping[str, Any]) -> QConfigRecord:
    extra = found.get("extra_info") or {}
    group = found.get("group") or ""
    if LATENCY_RATIO.key in extra and group.endswith(TITLE):
        return _published(group.removesuffix(TITLE), found, extra)
    name, _, parameters = found["fullname"].partition("[")
    measured = {MEDIAN.key: _median(MEDIAN, found["stats"], 1e6)}
    return QConfigRecord(name, KIND, parameters.removesuffix("]") or PLAIN, None, measured)


def _published(suite: str, found: Mapping[str, Any], extra: Mapping[str, Any]) -> QConfigRecord:
    """What `plugin.publish` handed to pytest-benchmark."""
    low, high = (extra.get(f"{LATENCY_RATIO.key}_{end}") for end in ("low", "high"))
    count = extra.get(f"{LATENCY_RATIO.key}_samples")
    measured = [Measurement(LATENCY_RATIO, _number(extra[LATENCY_RATIO.key]), low, high, count)]
    measured.append(_median(LATENCY_INT8, found["stats"], 1e3))
    if extra.get("fp32_ms"):
        measured.append(Measurement(LATENCY_FP32, median(extra["fp32_ms"]), samples=len(extra["fp32_ms"])))
    by_key = {m.metric.key: m for m in measured}
    return QConfigRecord(suite, KIND, str(found.get("param") or PLAIN), None, by_key, pairs=tuple(_pairs(found, extra)))


def _pairs(found: Mapping[str, Any], extra: Mapping[str, Any]) -> Iterator[tuple[float, ...]]:
    """Ratios by process, where the file holds every time."""
    times, fp32, owners = found["stats"].get("data", ()), extra.get("fp32_ms", ()), extra.get("process_of", ())
    if not times or not len(times) == len(fp32) == len(owners):
        return
    for process in dict.fromkeys(owners):
        mine = [i for i, owner in enumerate(owners) if owner == process]
        yield tuple(float(f"{1000 * times[i] / fp32[i]:.5g}") for i in mine)


def _median(metric: Metric, stats: Mapping[str, Any], in_a_second: float) -> Measurement:
    beside = {f"{key}_{metric.unit}": in_a_second * _number(stats[key]) for key in STATISTICS if key in stats}
    value = in_a_second * _number(stats["median"])
    return Measurement(metric, value, samples=stats.get("rounds"), details=beside)


def _number(value: object) -> float:
    if not isinstance(value, float | int) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def is_benchmarks(path: Path) -> bool:
    """Whether a file looks like one of pytest-benchmark's, rather than like a run record."""
    try:
        return '"machine_info"' in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
