"""Files of pytest-benchmark as run records."""

from __future__ import annotations

import copy
import json

import pytest

from pytest_ptq.errors import StoreError
from pytest_ptq.metrics import LATENCY_INT8, LATENCY_RATIO
from pytest_ptq.store.benchmark_json import KIND, MEDIAN, is_benchmarks, record_of_benchmarks
from pytest_ptq.store.history import open_history, write_record
from pytest_ptq.store.record import RunRecord

STATS = {"min": 1e-6, "max": 9e-6, "mean": 3e-6, "stddev": 1e-6, "iqr": 5e-7, "median": 2.5e-6, "rounds": 40}
TREE = {
    "machine_info": {
        "node": "n",
        "processor": "",
        "machine": "x86_64",
        "python_implementation": "CPython",
        "python_version": "3.11.7",
        "release": "6.1",
        "system": "Linux",
        "cpu": {"brand_raw": "A CPU"},
    },
    "commit_info": {"id": "abc", "time": "2026-01-30T10:00:00+01:00", "dirty": True, "branch": "main"},
    "benchmarks": [
        {"group": None, "name": "test_a[1-x]", "fullname": "t.py::test_a[1-x]", "param": "1-x", "stats": STATS},
        {"group": None, "name": "test_b", "fullname": "t.py::test_b", "extra_info": {}, "stats": STATS},
    ],
    "datetime": "2026-01-31T12:00:00.000001+00:00",
    "version": "5.3.1",
}


def read(**changed):
    return record_of_benchmarks(json.dumps({**TREE, **changed}), "b.json")


def test_each_benchmark_is_a_result():
    record = read()
    assert [(r.suite, r.data, r.qconfig) for r in record.results] == [
        ("t.py::test_a", KIND, "1-x"),
        ("t.py::test_b", KIND, "-"),
    ]
    measured = record.results[0].measurements[MEDIAN.key]
    assert (measured.value, measured.samples) == (pytest.approx(2.5), 40)
    assert (measured.low, measured.high) == (None, None)
    assert measured.details["stddev_us"] == pytest.approx(1.0)


def test_the_run_is_known_by_time_commit_and_machine():
    record = read()
    assert record.time.isoformat() == "2026-01-31T12:00:00.000001+00:00"
    assert (record.commit, record.branch) == ("abc-dirty", "main")
    assert record.commit_time.isoformat() == "2026-01-30T09:00:00+00:00"
    assert record.machine_key == "pytest-benchmark/Linux/A CPU/CPython 3.11"
    assert record.versions == {"pytest-benchmark": "5.3.1", "python": "3.11.7"}


def test_outside_a_repository_there_is_no_commit():
    record = read(commit_info={"id": "unversioned", "time": None, "dirty": False, "branch": "(unknown)"})
    assert (record.commit, record.branch, record.commit_time) == (None, None, None)
    assert read(commit_info=None).commit is None


def test_a_time_without_a_zone_is_utc():
    assert read(datetime="2026-01-31T12:00:00").time.isoformat() == "2026-01-31T12:00:00+00:00"


def test_the_same_file_is_the_same_run(tmp_path):
    assert read() == read()
    assert read().run_id != read(version="5.3.2").run_id
    write_record(tmp_path, read())
    assert list(open_history(tmp_path)) == [read()]
    assert RunRecord.from_json(read().to_json()) == read()


def test_a_published_latency_is_a_latency_again():
    extra = {
        "latency_ratio": 0.5,
        "latency_ratio_low": 0.4,
        "latency_ratio_high": 0.6,
        "latency_ratio_samples": 4,
        "fp32_ms": [1.0, 2.0, 1.0, 1.0],
        "process_of": [0, 0, 1, 1],
    }
    stats = {**STATS, "median": 5e-4, "data": [5e-4, 8e-4, 4e-4, 6e-4]}
    found = {"group": "net int8 latency", "fullname": "x", "param": "x86", "extra_info": extra, "stats": stats}
    (result,) = read(benchmarks=[found]).results
    assert (result.suite, result.qconfig, result.pairs) == ("net", "x86", ((0.5, 0.4), (0.4, 0.6)))
    ratio = result.measurements[LATENCY_RATIO.key]
    assert (ratio.value, ratio.low, ratio.high, ratio.samples) == (0.5, 0.4, 0.6, 4)
    assert result.measurements[LATENCY_INT8.key].value == pytest.approx(0.5)
    del stats["data"]
    assert read(benchmarks=[found]).results[0].pairs == ()


def without(*path):
    tree = copy.deepcopy(TREE)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return json.dumps(tree)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"schema": 2}',
        without("machine_info"),
        without("machine_info", "system"),
        without("datetime"),
        without("benchmarks", 0, "fullname"),
        without("benchmarks", 0, "stats", "median"),
        json.dumps({**TREE, "datetime": "yesterday"}),
        json.dumps({**TREE, "benchmarks": [{**TREE["benchmarks"][0], "stats": {"median": "fast"}}]}),
        json.dumps({**TREE, "benchmarks": 3}),
    ],
)
def test_what_is_no_such_file_is_one_sentence(text):
    with pytest.raises(StoreError, match=r"store: b.json: this is not a file of pytest-benchmark") as caught:
        record_of_benchmarks(text, "b.json")
    assert "\n" not in str(caught.value)


def test_damage_names_its_line():
    with pytest.raises(StoreError, match=r"b.json:1: it ends in the middle"):
        record_of_benchmarks('{"a": ', "b.json")


def test_such_files_are_told_from_run_records(tmp_path):
    (tmp_path / "b").write_text(json.dumps(TREE))
    (tmp_path / "r").write_text(RunRecord({}, {}, ()).to_json())
    assert [is_benchmarks(tmp_path / name) for name in ("b", "r", "none")] == [True, False, False]
