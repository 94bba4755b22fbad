"""Baselines from the command line: shown, compared with a run, and recorded anew from one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cli.made import KEY, Made, run
from pytest_ptq import metrics as m
from pytest_ptq.metrics import Direction, Measurement, Metric
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.history import write_record

FILE = Path("baselines/net.json")
HISTORY = Path(".ptq/history")
TREE = {
    "schema": 2,
    "suite": "net",
    "comment": "reviewed",
    "data": {
        "embedded": {
            "comment": "by people",
            "limits": {"x86": {"accuracy_drop_pp": 1.0, "latency_ratio": 0.8, "miou_percent": 70.0, "comment": "why"}},
            "xfail": {"x86": {"latency_ratio": "a slow machine"}},
            "tolerances": {"latency_ratio": 0.2},
            "recorded": {
                KEY: {"x86": {"sqnr_db": {"value": 29.5, "date": "2026-01-01", "commit": "a" * 40}}},
                "other": {"x86": {"sqnr_db": {"value": 20.0, "low": 19.0, "high": 21.0}}},
            },
        }
    },
}


@pytest.fixture
def file(project):
    FILE.parent.mkdir()
    FILE.write_text(json.dumps(TREE, indent=2))
    return FILE


@pytest.mark.usefixtures("file")
def test_show_tells_limits_and_records(ask):
    said = ask("baseline", "show", "net")
    assert said.status == 0
    rows = [line.split() for line in said.out.splitlines()]
    assert rows[0] == ["baselines/net.json"]
    assert ["embedded", "x86", "latency_ratio", "0.8", "(xfail)", "-", "-", "-", "-"] in rows
    assert ["embedded", "x86", "sqnr_db", "-", KEY, "29.5", "dB", "2026-01-01", "a" * 12] in rows
    assert ["other", "20.0", "dB", "[19.0,", "21.0]", "-", "-"] in rows
    assert any("miou_percent" in row for row in rows)


def test_show_tells_what_several_speeds_recorded(file, ask):
    found = Baselines.read(file, metrics=(*m.METRICS, "miou_percent"))
    for value, exchange in ((0.29, 11.7), (0.34, 4.3)):
        ratio = Measurement(m.LATENCY_RATIO, value, details={m.PROBE: 80.0, m.EXCHANGE: exchange})
        found = found.with_recorded("embedded", KEY, "x86", [ratio], missing=True)
    found.write()
    said = ask("baseline", "show", "net").out
    assert f"{KEY}, plain Python 80 us, core to core 11.7 us  0.290" in said
    assert f"{KEY}, plain Python 80 us, core to core 4.3 us   0.340" in said
    (row,) = (
        row for row in ask("baseline", "show", "net", "--json").json["values"] if row["metric"] == "latency_ratio"
    )
    assert [(one["machine"], one["value"], "other_speeds" in one) for one in row["recorded"]] == [
        (KEY, 0.29, False),
        (KEY, 0.34, False),
    ]


@pytest.mark.usefixtures("file")
def test_show_as_json(ask):
    found = ask("baseline", "show", "net", "--json").json
    values = {value["metric"]: value for value in found["values"]}
    assert values["latency_ratio"]["tolerance"] == 0.2
    assert values["latency_ratio"]["xfail"] == "a slow machine"
    assert [known["machine"] for known in values["sqnr_db"]["recorded"]] == [KEY, "other"]
    assert found["file"] == "baselines/net.json"


@pytest.mark.usefixtures("project")
def test_baselines_that_come_with_the_package_are_shown(ask):
    said = ask("baseline", "show", "resnet50")
    assert said.status == 0
    assert "accuracy_drop_pp" in said.out
    assert ask("baseline", "show", "resnet50", "--baselines", "other").status == 1


def test_diff_tells_what_update_would_change_and_writes_nothing(ask, file):
    before = file.read_bytes()
    said = ask("baseline", "diff", "latest")
    assert said.status == 0
    assert f"baseline changes of net[x86] on embedded data, {KEY}:" in said.out
    assert "~ sqnr_db           29.5 dB -> 30.0 dB   +0.5 dB" in said.out
    assert "+ latency_ratio     none    -> 0.505 [0.502, 0.508]" in said.out
    assert file.read_bytes() == before
    assert ask("baseline", "diff", "latest", "--json").json["suites"]["net"]["changed"] is True
    assert "sqnr_db" not in ask("baseline", "diff", "latest", "--new").out


def test_update_keeps_limits_comments_and_other_machines(ask, file):
    said = ask("baseline", "update", "run3")
    assert said.status == 0
    assert said.out.splitlines()[-1] == "baseline written to baselines/net.json"
    tree = json.loads(file.read_text())
    kept, was = tree["data"]["embedded"], TREE["data"]["embedded"]
    for key in ("comment", "limits", "xfail", "tolerances"):
        assert kept[key] == was[key]
    assert tree["comment"] == "reviewed"
    assert kept["recorded"]["other"] == was["recorded"]["other"]
    entry = kept["recorded"][KEY]["x86"]["latency_ratio"]
    assert (entry["value"], entry["processes"], entry["probe_us"]) == (0.403, 5, 90)
    assert (entry["date"], entry["commit"]) == ("2026-02-03", "c3" * 20)
    assert entry["versions"] == "torch 2.15.0, torchvision 0.29.2, pytest-ptq 0.1.0"
    assert ask("baseline", "update", "run3").out == "the baseline of net says so already\n"


def test_update_of_what_is_new_alone(ask, file):
    ask("baseline", "update", "latest", "--new")
    found = Baselines.read(file, ["accuracy_drop_pp", "latency_ratio", "miou_percent"])
    assert found.recorded("embedded", KEY, "x86", m.SQNR).value == 29.5
    assert found.recorded("embedded", KEY, "x86", m.LATENCY_RATIO).value == 0.505


def test_a_metric_of_a_users_own_is_recorded(ask, file):
    mine = Metric("miou_percent", "mean IoU", "%", Direction.HIGHER_IS_BETTER, 1)
    made = run(Made(day=8))
    result = replace(made.results[0], measurements={mine.key: Measurement(mine, 71.23)})
    write_record(HISTORY, replace(made, results=(result,)))
    assert "miou_percent" in ask("baseline", "update", "latest").out
    assert json.loads(file.read_text())["data"]["embedded"]["recorded"][KEY]["x86"]["miou_percent"]["value"] == 71.23


@pytest.mark.usefixtures("project")
def test_the_packages_own_baselines_are_never_written(ask):
    write_record(HISTORY, run(Made(day=8, suite="resnet50")))
    said = ask("baseline", "update", "latest")
    assert said.status == 0
    assert "baseline written to baselines/resnet50.json" in said.out
    assert "accuracy_drop_pp" in Path("baselines/resnet50.json").read_text()


@pytest.mark.parametrize(
    ("args", "status", "sentence"),
    [
        (("show", "nett"), 1, "the baseline does not exist"),
        (("show", "../net"), 1, "cannot name a baseline file"),
        (("update", "latest", "--suite", "other"), 4, "run run50000 measured nothing of other. It has net."),
        (("update", "unknown"), 4, "unknown run 'unknown'"),
        (("renew",), 4, "No such command 'renew'"),
        ((), 4, "Missing command. See pytest-ptq baseline --help."),
    ],
)
@pytest.mark.usefixtures("file")
def test_misuse_is_one_sentence(ask, args, status, sentence):
    said = ask("baseline", *args)
    assert (said.status, said.out) == (status, "")
    assert sentence in said.err
    assert said.err.count("\n") == 1


@pytest.mark.usefixtures("file")
def test_a_run_without_a_machine_is_no_baseline(ask):
    write_record(HISTORY, replace(run(Made(day=8)), machine={}))
    said = ask("baseline", "update", "latest")
    assert said.status == 4
    assert "does not say on what machine" in said.err


def test_one_damaged_file_stops_all_of_an_update(ask, file):
    made = run(Made(day=8))
    write_record(HISTORY, replace(made, results=(*made.results, *run(Made(suite="other")).results)))
    Path("baselines/other.json").write_text("{")
    before = file.read_bytes()
    assert ask("baseline", "update", "latest").status == 1
    assert file.read_bytes() == before
