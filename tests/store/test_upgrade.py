"""Baselines of schema 1: read, upgraded in memory, and written as schema 2."""

import json

import pytest

from pytest_ptq.errors import BaselineError
from pytest_ptq.metrics import ACCURACY_DROP, LATENCY_FP32, LATENCY_RATIO, Measurement
from pytest_ptq.store.baseline_upgrade import NOTES, STEPS
from pytest_ptq.store.baselines import SCHEMA, Baselines

KEY = "avx2/onednn/2t/torch2.15"
OLD = {
    "schema": 1,
    "suite": "net",
    "comment": "kept",
    "data": {
        "embedded": {
            "limits": {"x86": {"latency_ratio": 0.6, "accuracy_drop_pp": 1.0, "comment": "kept"}},
            "tolerances": {"latency_ratio": 0.1},
            "recorded": {
                KEY: {
                    "x86": {
                        "accuracy_drop_pp": {"value": 0.1, "samples": 10, "date": "2026-01-31"},
                        "latency_fp32_ms": {"value": 8.1},
                        "latency_ratio": {"value": 0.5, "low": 0.4, "high": 0.6},
                    },
                    "minmax": {"latency_ratio": {"value": 0.5}},
                },
                "timed/only": {"x86": {"latency_int8_ms": {"value": 1}}},
            },
        },
        "imagenet": {"recorded": {KEY: {"x86": {"latency_ratio": {"value": 0.5}}}}},
    },
}


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "net.json"
    file.write_text(json.dumps(OLD, indent=2))
    return file


def test_latencies_of_one_process_are_left_out_and_nothing_else(path):
    expected = json.loads(json.dumps(OLD))
    expected["schema"] = 2
    kinds = expected["data"]
    del kinds["imagenet"]["recorded"]
    recorded = kinds["embedded"]["recorded"]
    del recorded["timed/only"], recorded[KEY]["minmax"]
    recorded[KEY]["x86"] = {"accuracy_drop_pp": recorded[KEY]["x86"]["accuracy_drop_pp"]}
    assert json.loads(Baselines.read(path).text) == expected


def test_limits_on_latency_stay_on_their_lines(path):
    baselines = Baselines.read(path)
    limit = baselines.limit("embedded", "x86", LATENCY_RATIO)
    assert limit.bound == 0.6
    line = int(limit.source.rpartition(":")[2])
    assert '"latency_ratio": 0.6' in path.read_text().splitlines()[line - 1]
    assert baselines.tolerance("embedded", LATENCY_RATIO) == 0.1
    for metric in (LATENCY_RATIO, LATENCY_FP32):
        assert baselines.recorded("embedded", KEY, "x86", metric) is None
    assert baselines.recorded("embedded", KEY, "x86", ACCURACY_DROP).value == 0.1
    assert baselines.machine_keys("embedded") == (KEY,)


def test_reading_changes_no_file_and_writing_upgrades_it(path):
    before = path.read_text()
    baselines = Baselines.read(path)
    assert baselines.schema == 1
    assert path.read_text() == before
    baselines.with_recorded("embedded", KEY, "x86", [Measurement(LATENCY_RATIO, 0.5, details={"processes": 3})]).write()
    assert json.loads(path.read_text())["schema"] == 2
    again = Baselines.read(path)
    assert again.schema == 2
    assert again.recorded("embedded", KEY, "x86", LATENCY_RATIO).value == 0.5


@pytest.mark.parametrize("entry", ['{"value": "fast"}', '{"value": 9, "low": 1, "high": 2}', '{"value": 1, "ms": 2}'])
def test_what_is_left_out_must_not_be_damaged_either(path, entry):
    path.write_text(
        path.read_text().replace('"latency_ratio": {', f'"latency_int8_ms": {entry},\n"latency_ratio": {{', 1)
    )
    with pytest.raises(BaselineError, match=r"latency_int8_ms|'ms'"):
        Baselines.read(path)


def test_every_older_schema_has_its_step():
    assert sorted(STEPS) == sorted(NOTES) == list(range(1, SCHEMA))
