"""What a baseline file may hold, and the order it is written in. `baseline.schema.json` says the same to editors.

{
  "schema": 2,
  "suite": "resnet50",
  "comment": "optional, kept",
  "data": {
    "embedded": {
      "comment": "optional, kept",
      "limits": {"x86": {"accuracy_drop_pp": 1.0, "comment": "optional, kept"}},
      "xfail": {"x86": {"latency_ratio": "why it is expected to fail, a sentence"}},
      "tolerances": {"latency_ratio": 0.1},
      "recorded": {"avx512_vnni/onednn/2t/torch2.15": {"x86": {"accuracy_drop_pp": {
        "value": 0.12, "low": -0.1, "high": 0.3, "samples": 10000, "processes": 5,
        "date": "2026-01-31", "commit": "0123abcd", "versions": "torch 2.15.0, ..."}}}}
    }
  }
}

"processes" is the number of fresh processes that a latency was measured in, "probe_us" how many microseconds a fixed
piece of Python took there and "exchange_us" how many data take from core to core: the speed of the machine.
"int8_kernels" and "fp32_kernels" say by what the models ran, and "other_speeds" lists values of the same form that were
recorded at other speeds, beside the entry that they stand in. "$schema", which names the JSON Schema for an editor, may
stand at the top and is kept.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pytest_ptq.metrics import METRICS
from pytest_ptq.store.strict_json import Keys

SCHEMA = 2
COMMENT = "comment"
TOP = ("$schema", "schema", "suite", COMMENT, "data")
KIND = (COMMENT, "limits", "xfail", "tolerances", "recorded")
NUMBERS = ("value", "low", "high")
COUNTS = ("samples", "processes", "probe_us")
MICROSECONDS = ("exchange_us",)
TIMED = ("int8_kernels", "fp32_kernels")
TEXTS = ("date", "commit", "versions")
OTHER_SPEEDS = "other_speeds"
ENTRY = (*NUMBERS, *COUNTS, *MICROSECONDS, *TIMED, *TEXTS)


class FormatError(ValueError):
    """What is wrong with the value at `path`; `remedy` where there is a better one than to correct it."""

    def __init__(self, message: str, path: Keys, remedy: str | None = None):
        super().__init__(message)
        self.message, self.path, self.remedy = message, path, remedy


def validate(tree: Any, metrics: Collection[str]) -> None:
    """Raise FormatError for the first thing in `tree`, of any schema up to SCHEMA, that this version does not know."""
    top = _mapping(tree, (), "the document")
    # The schema comes first: of a newer file, nothing else can be judged.
    _check_schema(top)
    _known_keys(top, TOP, ())
    for key in ("suite", "$schema"):
        if not isinstance(top.get(key, "" if key == "$schema" else None), str):
            raise FormatError(f'"{key}" is missing or no string', (key,) if key in top else ())
    for kind, entry in _mapping(top.get("data"), ("data",), '"data"').items():
        _check_kind(entry, ("data", kind), metrics)


def _check_schema(top: Mapping[str, Any]) -> None:
    schema = top.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise FormatError('"schema" is missing or no whole number', ("schema",) if "schema" in top else ())
    if schema > SCHEMA:
        message = f"schema {schema} comes from a newer pytest-ptq; this one reads schemas 1 to {SCHEMA}"
        raise FormatError(message, ("schema",), "Upgrade pytest-ptq.")
    if schema < 1:
        raise FormatError(f"schema {schema} never existed; this version reads schemas 1 to {SCHEMA}", ("schema",))


def _check_kind(entry: Any, at: Keys, metrics: Collection[str]) -> None:
    found = _mapping(entry, at, _quoted(at[-1]))
    _known_keys(found, KIND, at)
    for name, limits in _optional(found, "limits", at).items():
        _check_numbers(limits, (*at, "limits", name), metrics, "limit")
    for name, reasons in _optional(found, "xfail", at).items():
        _check_reasons(reasons, (*at, "xfail", name), metrics)
    tolerances = (*at, "tolerances")
    _check_numbers(_optional(found, "tolerances", at), tolerances, metrics, "tolerance")
    for key, tolerance in found.get("tolerances", {}).items():
        if key != COMMENT and tolerance < 0:
            raise FormatError(f"the tolerance of {key} is negative", (*tolerances, key))
    for machine, qconfigs in _optional(found, "recorded", at).items():
        for name, values in _mapping(qconfigs, (*at, "recorded", machine), _quoted(machine)).items():
            where = (*at, "recorded", machine, name)
            for key, value in _mapping(values, where, _quoted(name)).items():
                _check_recorded(value, (*where, key))


def _check_numbers(entry: Any, at: Keys, metrics: Collection[str], what: str) -> None:
    for key, value in _mapping(entry, at, _quoted(at[-1])).items():
        if key == COMMENT:
            continue
        if key not in metrics:
            raise FormatError(f"{key!r} is not a metric", (*at, key), _nearest(key, metrics))
        if not _is_number(value):
            raise FormatError(f"the {what} of {key} is not a number", (*at, key))


def _check_reasons(entry: Any, at: Keys, metrics: Collection[str]) -> None:
    for key, reason in _mapping(entry, at, _quoted(at[-1])).items():
        if key not in metrics:
            raise FormatError(f"{key!r} is not a metric", (*at, key), _nearest(key, metrics))
        if not isinstance(reason, str) or not reason.strip():
            raise FormatError(f"the reason why {key} is expected to fail is missing or no string", (*at, key))


def _check_recorded(entry: Any, at: Keys) -> None:
    """What one machine recorded: a value, and those at other speeds."""
    found = _mapping(entry, at, _quoted(at[-1]))
    _check_entry({key: value for key, value in found.items() if key != OTHER_SPEEDS}, at)
    others = found.get(OTHER_SPEEDS, [])
    if not isinstance(others, list):
        raise FormatError(f'"{OTHER_SPEEDS}" of {at[-1]!r} is no list', (*at, OTHER_SPEEDS))
    for index, other in enumerate(others):
        _check_entry(other, (*at, OTHER_SPEEDS, index))


def _check_entry(entry: Any, at: Keys) -> None:
    """A recorded value. Its metric may be unknown (an extension that is absent today); its form may not."""
    found = _mapping(entry, at, _quoted(at[-1]))
    _known_keys(found, ENTRY, at)
    for key in NUMBERS:
        if (key == "value" or key in found) and not _is_number(found.get(key)):
            raise FormatError(f'"{key}" of {at[-1]!r} is missing or no number', (*at, key) if key in found else at)
    if not found.get("low", found["value"]) <= found["value"] <= found.get("high", found["value"]):
        raise FormatError(f"the interval of {at[-1]!r} does not hold its value", at)
    for key in COUNTS:
        count = found.get(key, 1)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise FormatError(f'"{key}" of {at[-1]!r} is no positive whole number', (*at, key))
    for key in MICROSECONDS:
        if key in found and (not _is_number(found[key]) or found[key] <= 0):
            raise FormatError(f'"{key}" of {at[-1]!r} is no positive number', (*at, key))
    for key in (*TIMED, *TEXTS):
        if not isinstance(found.get(key, ""), str):
            raise FormatError(f'"{key}" of {at[-1]!r} is no string', (*at, key))


def _optional(found: Mapping[str, Any], key: str, at: Keys) -> Mapping[str, Any]:
    return _mapping(found.get(key, {}), (*at, key), _quoted(key))


def _mapping(value: Any, at: Keys, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{name} is missing or no object", at)
    return value


def _quoted(name: str | int) -> str:
    # As JSON writes it: what a file calls a thing may hold anything, and ends in an error message.
    return json.dumps(name, ensure_ascii=False)


def _known_keys(found: Mapping[str, Any], known: Iterable[str], at: Keys) -> None:
    for key in found:
        if key not in known:
            raise FormatError(f"{key!r} is not a key that belongs there", (*at, key), _nearest(key, known))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."


def render(tree: Mapping[str, Any]) -> str:
    """The text of a baseline file: one value a line, stable order, a newline at the end.

    What people write (limits, comments) keeps its order; what is recorded is sorted, so that a diff shows changes only.
    """
    data = {kind: _arrange_kind(entry) for kind, entry in tree["data"].items()}
    ordered = _pick({**tree, "data": data}, TOP)
    return json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _arrange_kind(entry: Mapping[str, Any]) -> dict[str, Any]:
    recorded = {
        machine: {name: _arrange_values(values) for name, values in sorted(qconfigs.items())}
        for machine, qconfigs in sorted(entry.get("recorded", {}).items())
    }
    return _pick({**entry, "recorded": recorded} if recorded else entry, KIND)


def _arrange_values(values: Mapping[str, Any]) -> dict[str, Any]:
    rank = {key: place for place, key in enumerate(METRICS)}
    keys = sorted(values, key=lambda key: (rank.get(key, len(rank)), key))
    return {key: _arrange_recorded(values[key]) for key in keys}


def _arrange_recorded(entry: Mapping[str, Any]) -> dict[str, Any]:
    others = [_pick(other, ENTRY) for other in entry.get(OTHER_SPEEDS, ())]
    return {**_pick(entry, ENTRY), **({OTHER_SPEEDS: others} if others else {})}


def _pick(found: Mapping[str, Any], order: Iterable[str]) -> dict[str, Any]:
    return {key: found[key] for key in order if key in found}
