"""The digest of a record straight from its text, without the objects that a whole record is made of.

Only a text that is written as `RunRecord.to_json` writes it, or did, is read here: every key where it belongs, none
twice, every value of its type and finite. Of anything else nothing is said: `RunRecord.from_json` reads it, or says
what is wrong. The timed pairs, most of the text, are held to their grammar and then left out: no series needs them.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pytest_ptq.metrics import Direction, Judgement, LayerError, Measurement, Metric, Verdict
from pytest_ptq.store.digest import Digest, Judged, SharedKeys
from pytest_ptq.store.record import READABLE, QConfigRecord

Pairs: TypeAlias = tuple[tuple[str, Any], ...]
"""An object of JSON as it stands there, so that a key that is there twice is seen."""

RECORD = (
    "schema", "run_id", "time", "commit", "branch", "commit_time", "commit_subject", "machine", "versions", "metrics",
    "results",
)  # fmt: skip
RESULT, MEASUREMENT, JUDGEMENT, METRIC, LAYER = (
    tuple(field.name for field in fields(kind)) for kind in (QConfigRecord, Measurement, Judgement, Metric, LayerError)
)
LIMIT, KEPT_LAYER = ("bound", "source"), ("name", "reason")
VERDICTS = frozenset(Verdict.__members__)
DIRECTIONS = frozenset(direction.value for direction in Direction)

_PAIRS_KEY = '"pairs": ['
_PAIRS_HEAD = '\n      "pairs": ['
_METRICS_HEAD, _METRICS_END = '\n  "metrics": {', '\n  },\n  "results": ['
"""A line break is never inside a string: what follows it is a key, and `_DECODER` refuses one that is."""
_RATIO = r"(?:[1-9][0-9]{0,15}+|0(?=\.0*+[1-9]))\.[0-9]{1,20}+"
"""Positive, and far from what a float cannot hold."""
_PROCESS = rf"\n *+\[(?:{_RATIO}(?:, {_RATIO})*+)?+\]"
_PAIRS = re.compile(rf"\[(?:{_PROCESS}(?:,{_PROCESS})*+\n *+)?+\]")
_LARGEST = sys.float_info.max


class _OtherwiseError(Exception):
    """The text is not written as `RunRecord.to_json` writes it."""


class Glance:
    """Digests of many records. What stood in the one before, word for word, was looked at then."""

    def __init__(self) -> None:
        self._metrics: tuple[str, dict[str, str]] = "", {}
        self._seen: dict[str, Pairs] = {}
        self._keys = SharedKeys()

    def digest(self, text: str) -> Digest | None:
        """What `digest_of(RunRecord.from_json(text))` is; None for whatever is written otherwise than usual."""
        if "\\u" in text:  # which may write half a surrogate pair
            return None
        try:
            begin = text.index(_METRICS_HEAD) + len(_METRICS_HEAD) - 1
            end = text.index(_METRICS_END, begin) + _METRICS_END.index(",")
            metrics = self._metric_keys(text[begin:end])
            return self._record(_DECODER.decode(f"{text[:begin]}[]{_without_pairs(text, end)}"), metrics)
        except (_OtherwiseError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _record(self, tree: Any, names: dict[str, str]) -> Digest:
        schema, run_id, time, commit, branch, commit_time, subject, *rest = _of(tree, RECORD)
        machine, versions, metrics, results = rest
        _hold(type(schema) is int and schema in READABLE and type(run_id) is str)
        _hold(all(name is None or type(name) is str for name in (commit, branch, subject)))
        if commit_time is not None:
            _time(commit_time)
        key = str(self._plain("machine", machine).get("key", ""))
        self._plain("versions", versions)
        _hold(metrics == [])
        found = _Results(names, key)
        found.read(results)
        of_run = (commit, branch, subject, key, tuple(dict.fromkeys(found.suites)))
        return Digest(run_id, _time(time), *of_run, found.errors, self._keys.of(found.keys), *found.columns())

    def _plain(self, name: str, tree: Any) -> dict[str, Any]:
        if self._seen.get(name) != tree:
            _plain(tree)
            self._seen[name] = tree
        return dict(tree)

    def _metric_keys(self, text: str) -> dict[str, str]:
        """The key of each metric by the name that it has in the record. `text` is that part of it, a whole object."""
        if self._metrics[0] != text:
            found = {}
            for name, entry in _unique(_DECODER.decode(text)):
                key, title, unit, direction, digits = _of(entry, METRIC)
                _hold(type(key) is type(title) is type(unit) is str and direction in DIRECTIONS)
                _hold(type(digits) is int)
                _numbers([digits])
                found[name] = key
            self._metrics = text, found
        return self._metrics[1]


class _Results:
    """What the results of one record say. Texts and numbers are gathered, and held to their types all at once."""

    def __init__(self, metrics: dict[str, str], machine: str) -> None:
        self._metrics, self._machine = metrics, machine
        self.suites: list[str] = []
        self.errors = 0
        self.keys: list[tuple[str, ...]] = []
        self.values: list[float] = []
        self.lows: list[float | None] = []
        self.highs: list[float | None] = []
        self.judged: list[Judged] = []
        self._texts: list[Any] = []
        self._given: list[Any] = []
        self._optional: list[Any] = []

    def read(self, results: Any) -> None:
        _hold(type(results) is list)
        for result in results:
            self._result(*_of(result, RESULT[: len(result)]))  # older records end before the last of them
        _hold(set(map(type, self._texts)) <= {str})
        optional = (*self.lows, *self.highs, *self._optional)
        _numbers([*self.values, *self._given, *(number for number in optional if number is not None)])

    def columns(
        self,
    ) -> tuple[tuple[float, ...], tuple[float | None, ...], tuple[float | None, ...], tuple[Judged, ...]]:
        return tuple(self.values), tuple(self.lows), tuple(self.highs), tuple(self.judged)

    def _result(
        self, suite: Any, data: Any, qconfig: Any, reduced: Any, measurements: Any, judgements: Any, kept: Any,
        layers: Any, errors: Any, pairs: Any, runtime: Any = "torch", own: Any = None, ms: Any = (), failed: Any = (),
    ) -> None:  # fmt: skip
        _hold(reduced in (None, True, False) and type(kept) is type(layers) is type(errors) is list and pairs == [])
        self._texts += (suite, data, qconfig, runtime, own or "", *errors, *(why for _, why in _unique(failed)))
        self._given += (number for _, number in _unique(ms))
        for layer in kept:
            self._texts += _of(layer, KEPT_LAYER)
        for layer in layers:
            name, kind, *figures = _of(layer, LAYER)
            self._texts += (name, kind)
            self._optional += figures
        self.suites.append(suite)
        self.errors += len(errors)
        verdicts = {name: self._judgement(judgement) for name, judgement in _unique(judgements)}
        known = {name for name, _ in _unique(measurements)}
        rest = ((name, measured) for name, (measured, _) in verdicts.items() if name not in known)
        for name, tree in (*measurements, *rest):
            metric, value, low, high = self._measurement(tree)
            if name in verdicts:
                self.judged.append((len(self.keys), *verdicts[name][1]))
            self.keys.append((suite, data, qconfig, metric, own or self._machine))
            self.values.append(value)
            self.lows.append(low)
            self.highs.append(high)

    def _judgement(self, tree: Any) -> tuple[Any, tuple[float | None, float | None, str]]:
        """What was measured; bound, recorded value, verdict."""
        verdict, measured, limit, reason, recorded = _of(tree, JUDGEMENT)
        _hold(verdict in VERDICTS)
        bound, source = (None, "") if limit is None else _of(limit, LIMIT)
        self._texts += (reason, source)
        self._given += () if limit is None else (bound,)
        before = None
        for held in (measured, *(() if recorded is None else (recorded,))):
            _, before, *interval = self._measurement(held)
            self._given.append(before)
            self._optional += interval
        return measured, (bound, None if recorded is None else before, verdict)

    def _measurement(self, tree: Any) -> tuple[str, Any, Any, Any]:
        """Its metric's key, its value, and the ends of its interval."""
        # As `_of` does it, in half the time: this is most of a record.
        if type(tree) is not tuple:
            raise _OtherwiseError
        (k0, metric), (k1, value), (k2, low), (k3, high), (k4, samples), (k5, details) = tree
        if (k0, k1, k2, k3, k4, k5) != MEASUREMENT:
            raise _OtherwiseError
        if details != ():
            _plain(details)
        self._optional.append(samples)
        return self._metrics[metric], value, low, high


def _refuse(token: str) -> float:
    raise _OtherwiseError


_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_refuse)


def _without_pairs(text: str, at: int) -> str:
    """The text from `at` on, with `[]` for the pairs of each result."""
    kept = list[str]()
    while (key := text.find(_PAIRS_KEY, at)) >= 0:
        begin = key + len(_PAIRS_KEY) - 1
        pairs = _PAIRS.match(text, begin)
        if pairs is None or not text.startswith(_PAIRS_HEAD, begin + 1 - len(_PAIRS_HEAD)):
            raise _OtherwiseError
        kept += (text[at:begin], "[]")
        at = pairs.end()
    return "".join((*kept, text[at:]))


def _of(tree: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """The values of an object that has these keys in this order, and no other."""
    if type(tree) is not tuple:
        raise _OtherwiseError
    found, values = zip(*tree, strict=True)
    if found != keys:
        raise _OtherwiseError
    return values


def _unique(tree: Any) -> Pairs:
    """The items of an object without a key that is there twice."""
    if type(tree) is not tuple or len(dict(tree)) != len(tree):
        raise _OtherwiseError
    return tree


def _plain(tree: Any) -> None:
    """An object of texts, numbers and the like, of nothing that holds other values."""
    numbers = [value for _, value in _unique(tree) if value is not None and type(value) not in (str, bool)]
    _numbers(numbers)


def _numbers(values: list[Any]) -> None:
    """All of them are, and none is too large for a float."""
    _hold(set(map(type, values)) <= {int, float})
    _hold(not values or (min(values) >= -_LARGEST and max(values) <= _LARGEST))


def _time(text: Any) -> datetime:
    found = datetime.fromisoformat(text)
    _hold(found.utcoffset() is not None)
    return found.astimezone(UTC)


def _hold(condition: bool) -> None:
    if not condition:
        raise _OtherwiseError
