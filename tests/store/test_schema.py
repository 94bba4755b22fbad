"""`baseline.schema.json`, which editors check a baseline against, agrees with what reads baselines."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pytest_ptq.metrics import METRICS, Measurement
from pytest_ptq.store.baseline_format import SCHEMA, FormatError, validate
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.provenance import Provenance

TREE = json.loads(files("pytest_ptq.store").joinpath("baseline.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(TREE)
REPOSITORY = Path(__file__).resolve().parents[2]
ENTRY = {
    "value": 0.1,
    "low": 0.0,
    "high": 0.2,
    "samples": 3,
    "processes": 5,
    "probe_us": 80,
    "exchange_us": 4.3,
    "int8_kernels": "native program",
    "fp32_kernels": "native program",
    "date": "d",
    "commit": "c",
    "versions": "v",
}
FULL = {
    "$schema": "x",
    "schema": 2,
    "suite": "net",
    "comment": "c",
    "data": {
        "embedded": {
            "comment": "c",
            "limits": {"x86": {"latency_ratio": 0.6, "comment": "c"}},
            "xfail": {"x86": {"latency_ratio": "slow"}},
            "tolerances": {"latency_ratio": 0.1, "comment": "c"},
            "recorded": {"key": {"x86": {"latency_ratio": {**ENTRY, "other_speeds": [ENTRY, {"value": 0.2}]}}}},
        }
    },
}


def accepted(tree):
    return VALIDATOR.is_valid(tree)


def valid(tree):
    try:
        validate(tree, METRICS)
    except FormatError:
        return False
    return True


def test_it_is_a_schema_of_the_schema_that_is_written():
    Draft202012Validator.check_schema(TREE)
    assert TREE["properties"]["schema"] == {"const": SCHEMA}


def test_it_completes_every_metric():
    for name in ("limits", "reasons", "tolerances"):
        assert set(TREE["$defs"][name]["properties"]) - {"comment"} == set(METRICS)


def test_it_accepts_a_file_that_says_all_there_is_to_say():
    assert valid(FULL)
    assert accepted(FULL)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "baselines").glob("*.json")), ids=lambda path: path.name)
def test_it_accepts_the_project_s_own_baselines_as_they_are_written(path):
    baselines = Baselines.read(path)
    assert accepted(json.loads(baselines.text))
    assert path.read_text(encoding="utf-8") == baselines.text


def test_the_example_in_the_docs_is_one():
    text = (REPOSITORY / "docs" / "baselines.md").read_text(encoding="utf-8")
    tree = json.loads(text.partition("```json\n")[2].partition("```")[0])
    assert valid(tree)
    assert accepted(tree)


@given(
    st.dictionaries(st.sampled_from(sorted(METRICS)), st.floats(-1e9, 1e9), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.none() | st.integers(1, 10**6),
)
def test_it_accepts_whatever_is_rendered(tmp_path_factory, values, name, count):
    details = {} if count is None else {"processes": count}
    measured = [Measurement(METRICS[key], v, v, v, samples=count, details=details) for key, v in values.items()]
    empty = Baselines.empty(tmp_path_factory.getbasetemp() / "net.json")
    made = empty.with_recorded(name, name, name, measured, Provenance("d", None, "v"))
    made = made.with_limits(name, name, {METRICS[key]: value for key, value in values.items()}, "review")
    assert accepted(json.loads(made.text))


WRONG = [0, -1, 1.5, "", " ", "text", True, None, [], {}, {"latency_ratio": {}}, {"latency_ratio": True}]


def places(tree, path=()):
    yield path
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield from places(value, (*path, key))


def replaced(tree, path, value):
    if not path:
        return value
    return {**tree, path[0]: replaced(tree[path[0]], path[1:], value)}


def without(tree, path):
    found = json.loads(json.dumps(tree))
    parent = found
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    return found


@pytest.mark.parametrize("path", list(places(FULL)), ids="/".join)
def test_a_wrong_value_anywhere_is_judged_alike(path):
    trees = [replaced(FULL, path, value) for value in WRONG]
    trees += [without(FULL, path)] if path else []
    for tree in trees:
        if path[-1:] in (("value",), ("low",), ("high",)) and accepted(tree):
            continue  # whether an interval holds its value is beyond a JSON Schema
        if path == ("schema",) and valid(tree):
            continue
        assert accepted(tree) == valid(tree), tree


@pytest.mark.parametrize(
    "path", [path for path in places(FULL) if not {"comment", "$schema"} & set(path)], ids="/".join
)
def test_a_key_that_does_not_belong_is_judged_alike(path):
    found = FULL
    for key in path:
        found = found[key]
    if not isinstance(found, dict):
        return
    for value in (1, "text", {}, {"value": 1}):
        tree = replaced(FULL, path, {**found, "unknown": value})
        named = path[-2:-1] in (("limits",), ("xfail",)) or path[-1:] == ("tolerances",)
        if named or (path[-1:] in (("limits",), ("xfail",)) and value == {"value": 1}):
            continue  # it may be a metric that a hook registers: only the run knows
        assert accepted(tree) == valid(tree), tree


@pytest.mark.parametrize("schema", [0, 1, 3, 2.5, "2", True, None])
def test_it_is_for_no_other_schema(schema):
    assert not accepted({**FULL, "schema": schema})


def test_the_notes_on_what_it_cannot_know_are_true():
    unknown = replaced(FULL, ("data", "embedded", "limits", "x86"), {"latency": 1.0})
    outside = replaced(FULL, ("data", "embedded", "recorded", "key", "x86", "latency_ratio", "value"), 9.0)
    for tree in (unknown, outside):
        assert accepted(tree)
        assert not valid(tree)


@pytest.mark.parametrize(
    "other",
    [{}, {"value": "0.3"}, {**ENTRY, "exchange_us": 0}, {**ENTRY, "speed": 1}, {**ENTRY, "other_speeds": []}, 3],
)
def test_what_was_recorded_at_another_speed_has_the_same_form(other):
    path = ("data", "embedded", "recorded", "key", "x86", "latency_ratio", "other_speeds")
    for others, good in (([ENTRY, other], False), ([ENTRY, ENTRY], True)):
        tree = replaced(FULL, path, others)
        assert accepted(tree) is valid(tree) is good
