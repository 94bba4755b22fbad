"""A run record: everything that one run measured and judged, and on what, as versioned JSON.

Schema 2 added to schema 1: the pairs that a latency was measured in, and by what names people know the commit.
Schema 3 added to schema 2: the runtime of each result, with a machine key of its own where it is not torch.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pytest_ptq.errors import StoreError
from pytest_ptq.metrics import Direction, Judgement, LayerError, Limit, Measurement, Metric, Verdict
from pytest_ptq.store.strict_json import JSONError, load, render

SCHEMA = 3
READABLE = range(1, SCHEMA + 1)


@dataclass(frozen=True)
class QConfigRecord:
    """What one suite did with one qconfig on one kind of data. Mappings are keyed by `Metric.key`."""

    suite: str
    data: str
    qconfig: str
    reduce_range: bool | None
    """Whether no sum of two products can leave int16; None when nothing was quantized."""
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    fp32_layers: tuple[tuple[str, str], ...] = ()
    """(layer, reason) of each layer that stayed fp32."""
    worst_layers: tuple[LayerError, ...] = ()
    """Every int8 layer in graph order, one row each, where layers were looked at: in a failed accuracy gate, or when
    `--ptq-layers all` asked for it."""
    errors: tuple[str, ...] = ()
    """Sentences of what could not be measured."""
    pairs: tuple[tuple[float, ...], ...] = ()
    """The ratio int8 / fp32 of each timed pair in the order of measuring, one inner tuple a process; empty where
    latency was not measured. Those of one process are not independent of one another."""
    runtime: str = "torch"
    """Where the int8 model ran."""
    machine_key: str = ""
    """What is compared with what, where it is not the run's: the runtime and its version are part of it."""
    runtime_ms: Mapping[str, float] = field(default_factory=dict)
    """Median milliseconds of the int8 model by runtime, where the fastest of several was looked for."""
    runtime_errors: Mapping[str, str] = field(default_factory=dict)
    """Why others of them do not run it, by runtime."""

    def __post_init__(self) -> None:
        for process in self.pairs:
            # The sum is finite only if every one of them is.
            if process and not (math.isfinite(sum(process)) and min(process) > 0):
                message = f"the pairs of a process are no positive ratios ({min(process)} to {max(process)})"
                raise StoreError(message, place=f"{self.suite}[{self.qconfig}]")


@dataclass(frozen=True)
class RunRecord:
    """One run. `machine` is what describe_machine found, as a mapping, with its key under "key".

    `branch`, `commit_time` and `commit_subject` say of the commit what people know it by; None where nobody knows.
    """

    machine: Mapping[str, str | int | bool]
    versions: Mapping[str, str]
    results: tuple[QConfigRecord, ...]
    commit: str | None = None
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    branch: str | None = None
    commit_time: datetime | None = None
    commit_subject: str | None = None

    def __post_init__(self) -> None:
        for key in ("time", "commit_time"):
            time = getattr(self, key)
            if time is not None and time.utcoffset() is None:
                raise StoreError("the time of a run record has no time zone", remedy="Use UTC.")
            object.__setattr__(self, key, time and time.astimezone(UTC))

    @property
    def machine_key(self) -> str:
        """What is compared with what; empty for a machine without a key."""
        return str(self.machine.get("key", ""))

    def key_of(self, result: QConfigRecord) -> str:
        """The machine key of one result: its own, or else the run's."""
        return result.machine_key or self.machine_key

    def to_json(self) -> str:
        """The record as text; `from_json` gives an equal record. Raises StoreError for a value that is not finite."""
        metrics = {
            m.metric.key: _metric_json(m.metric)
            for result in self.results
            for m in (*result.measurements.values(), *(j.measurement for j in result.judgements.values()))
        }
        tree = {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "time": self.time.isoformat(),
            "commit": self.commit,
            "branch": self.branch,
            "commit_time": self.commit_time and self.commit_time.isoformat(),
            "commit_subject": self.commit_subject,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "metrics": metrics,
            "results": [_result_json(result) for result in self.results],
        }
        try:
            return render(tree) + "\n"
        except (TypeError, ValueError) as error:
            message = f"run record {self.run_id} holds a value that is no JSON ({error})"
            raise StoreError(message, remedy="Details of a measurement are finite numbers and strings.") from error

    @classmethod
    def from_json(cls, text: str, place: str | None = None) -> RunRecord:
        """Read what `to_json` wrote. Raises StoreError, naming `place`: damaged, or from another schema."""
        try:
            tree = load(text)
            schema = tree["schema"]
            if schema in READABLE:
                return _read_run(tree)
        except JSONError as error:
            raise StoreError(error.message, place=place and f"{place}:{error.line}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"this is not a run record ({type(error).__name__}: {error})", place=place) from error
        raise StoreError(
            f"run record of schema {schema!r}; this version reads schemas 1 to {SCHEMA}",
            place=place,
            remedy="Read it with the version of pytest-ptq that wrote it, or a newer one.",
        )


def _metric_json(metric: Metric) -> dict[str, Any]:
    """The metric itself: a record is read without the extensions that were installed when it was written."""
    return {**asdict(metric), "direction": metric.direction.value}


def _result_json(result: QConfigRecord) -> dict[str, Any]:
    return {
        "suite": result.suite,
        "data": result.data,
        "qconfig": result.qconfig,
        "reduce_range": result.reduce_range,
        "measurements": {key: _measurement_json(m) for key, m in result.measurements.items()},
        "judgements": {key: _judgement_json(j) for key, j in result.judgements.items()},
        "fp32_layers": [{"name": name, "reason": reason} for name, reason in result.fp32_layers],
        "worst_layers": [asdict(layer) for layer in result.worst_layers],
        "errors": list(result.errors),
        "pairs": [list(process) for process in result.pairs],
        "runtime": result.runtime,
        "machine_key": result.machine_key or None,
        "runtime_ms": dict(result.runtime_ms),
        "runtime_errors": dict(result.runtime_errors),
    }


def _measurement_json(measurement: Measurement) -> dict[str, Any]:
    return {
        "metric": measurement.metric.key,
        "value": measurement.value,
        "low": measurement.low,
        "high": measurement.high,
        "samples": measurement.samples,
        "details": dict(measurement.details),
    }


def _judgement_json(judgement: Judgement) -> dict[str, Any]:
    limit, recorded = judgement.limit, judgement.recorded
    return {
        "verdict": judgement.verdict.name,
        "measurement": _measurement_json(judgement.measurement),
        "limit": {"bound": limit.bound, "source": limit.source} if limit else None,
        "reason": judgement.reason,
        "recorded": _measurement_json(recorded) if recorded else None,
    }


def _read_run(tree: Mapping[str, Any]) -> RunRecord:
    metrics = {
        key: Metric(**{**entry, "key": _text(entry["key"]), "direction": Direction(entry["direction"])})
        for key, entry in tree["metrics"].items()
    }
    return RunRecord(
        machine=dict(tree["machine"].items()),
        versions=tree["versions"],
        results=tuple(_read_result(result, metrics) for result in tree["results"]),
        commit=tree["commit"],
        time=datetime.fromisoformat(tree["time"]),
        run_id=_text(tree["run_id"]),
        branch=tree.get("branch"),
        commit_time=datetime.fromisoformat(tree["commit_time"]) if tree.get("commit_time") else None,
        commit_subject=tree.get("commit_subject"),
    )


def _text(value: object) -> str:
    """What series and runs are told apart by."""
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a name belongs")
    return value


def _read_result(tree: Mapping[str, Any], metrics: Mapping[str, Metric]) -> QConfigRecord:
    return QConfigRecord(
        suite=_text(tree["suite"]),
        data=_text(tree["data"]),
        qconfig=_text(tree["qconfig"]),
        reduce_range=tree["reduce_range"],
        measurements={key: _read_measurement(m, metrics) for key, m in tree["measurements"].items()},
        judgements={key: _read_judgement(j, metrics) for key, j in tree["judgements"].items()},
        fp32_layers=tuple((layer["name"], layer["reason"]) for layer in tree["fp32_layers"]),
        worst_layers=tuple(LayerError(**layer) for layer in tree["worst_layers"]),
        errors=tuple(tree["errors"]),
        pairs=tuple(tuple(map(float, process)) for process in tree.get("pairs", ())),
        runtime=str(tree.get("runtime", "torch")),
        machine_key=str(tree.get("machine_key") or ""),
        runtime_ms={str(name): float(ms) for name, ms in tree.get("runtime_ms", {}).items()},
        runtime_errors={str(name): str(why) for name, why in tree.get("runtime_errors", {}).items()},
    )


def _read_measurement(tree: Mapping[str, Any], metrics: Mapping[str, Metric]) -> Measurement:
    return Measurement(**{**tree, "metric": metrics[tree["metric"]]})


def _read_judgement(tree: Mapping[str, Any], metrics: Mapping[str, Metric]) -> Judgement:
    measurement, limit, recorded = _read_measurement(tree["measurement"], metrics), tree["limit"], tree["recorded"]
    return Judgement(
        verdict=Verdict[tree["verdict"]],
        measurement=measurement,
        limit=Limit(measurement.metric, limit["bound"], limit["source"]) if limit else None,
        reason=tree["reason"],
        recorded=_read_measurement(recorded, metrics) if recorded else None,
    )
