"""Which run a name means, and what is told of runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.made import Made, run
from pytest_ptq.metrics import SQNR, Measurement, Verdict
from pytest_ptq.store.history import list_records, write_record
from pytest_ptq.store.record import QConfigRecord, RunRecord

HISTORY = Path(".ptq/history")


def shown(ask, name, *more):
    said = ask("show", name, "--json", *more)
    assert said.status == 0, said.err
    return said.json["run_id"]


@pytest.mark.usefixtures("project")
def test_latest_and_those_before(ask):
    assert shown(ask, "latest") == "run50000"
    assert shown(ask, "latest~0") == "run50000"
    assert shown(ask, "latest~5") == "run00000"


@pytest.mark.usefixtures("project")
def test_the_beginning_of_an_id_or_of_a_commit(ask):
    assert shown(ask, "run3") == "run30000"
    assert shown(ask, "run30000") == "run30000"
    assert shown(ask, "c2c2") == "run20000"


@pytest.mark.usefixtures("project")
def test_of_several_runs_of_a_commit_the_newest(ask):
    write_record(HISTORY, run(Made(day=9, more={"commit": "c2" * 20})))
    assert shown(ask, "c2c2c2") == "run90000"


@pytest.mark.usefixtures("project")
def test_an_exact_id_wins(ask):
    write_record(HISTORY, run(Made(day=9, more={"run_id": "run3"})))
    assert shown(ask, "run3") == "run3"
    assert shown(ask, "run30") == "run30000"


@pytest.mark.usefixtures("project")
def test_a_file_is_read_wherever_it_is(ask, tmp_path):
    path = tmp_path / "elsewhere.json"
    path.write_text(run(Made(day=8)).to_json())
    assert shown(ask, str(path)) == "run80000"
    assert shown(ask, "elsewhere.json") == "run80000"


@pytest.mark.usefixtures("project")
def test_another_folder_has_other_runs(ask, tmp_path):
    write_record(tmp_path / "other", run(Made(day=7)))
    assert shown(ask, "latest", "--history", "other") == "run70000"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("run", "'run' may mean run run00000, run run10000, run run20000"),
        ("rum30000", "unknown run 'rum30000'. Did you mean 'run30000'?"),
        ("latst", "unknown run 'latst'. Did you mean 'latest'?"),
        ("c2c", "unknown run 'c2c'"),
        ("latest~6", "there are only 6 runs"),
        ("none.json", "there is no file 'none.json'"),
        ("", "unknown run ''"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_name_that_means_no_run(ask, name, sentence):
    said = ask("show", name)
    assert (said.status, said.out) == (4, "")
    assert said.err.startswith("ERROR: usage: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_without_runs_it_is_told_how_to_get_some(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = ask("show", "latest")
    assert said.status == 4
    assert "there are no runs yet. Run a suite first (pytest --ptq-suite NAME)" in said.err
    assert ask("list", "runs").out == "no runs\n"
    assert ask("list", "runs", "--json").json == {"runs": []}


@pytest.mark.usefixtures("project")
def test_a_damaged_record_is_told_and_does_not_stop_the_others(ask):
    (HISTORY / "x.json").write_text("{")
    said = ask("list", "runs")
    assert said.status == 0
    assert said.out.count("run") > 6
    assert "x.json:1: it ends in the middle" in said.err
    assert ask("show", str(HISTORY / "x.json")).status == 1


@pytest.mark.usefixtures("project")
def test_runs_are_listed_oldest_first(ask):
    said = ask("list", "runs")
    rows = [line.split() for line in said.out.splitlines()[2:]]
    assert [row[0] for row in rows] == [f"run{day}0000" for day in range(6)]
    assert rows[1][1:4] == ["2026-02-01", "12:00", "c1c1c1c1c1c1"]
    assert {"net", "pass", "main"} <= set(rows[0])
    assert [row["run_id"] for row in ask("list", "runs", "--last", "2", "--json").json["runs"]] == [
        "run40000",
        "run50000",
    ]
    assert ask("list", "runs", "--suite", "other").out == "no runs\n"


@pytest.mark.usefixtures("project")
def test_the_most_serious_verdict_is_listed(ask):
    write_record(HISTORY, run(Made(day=7, verdict=Verdict.FAIL)))
    write_record(HISTORY, RunRecord({}, {}, (QConfigRecord("s", "d", "q", None, errors=("no",)),)))
    runs = ask("list", "runs", "--json").json["runs"]
    assert [found["verdict"] for found in runs][-3:] == ["pass", "FAIL", "ERROR"]
    assert runs[-1]["suites"] == ["s"]


@pytest.mark.usefixtures("project")
def test_show_tells_all_of_a_run(ask):
    said = ask("show", "latest")
    lines = said.out.splitlines()
    assert lines[0] == "run       run50000, 2026-02-05 12:00 UTC"
    assert lines[1] == "commit    c5c5c5c5c5c5 (main) Work of day 5"
    assert "net[x86] on embedded data" in lines
    (row,) = [line for line in lines if line.startswith("int8/fp32 latency")]
    assert row.split() == ["int8/fp32", "latency", "0.505", "[0.502,", "0.508]", "0.8", "-", "pass"]


@pytest.mark.usefixtures("project")
def test_show_tells_how_the_int8_model_was_run_and_why_not_by_compiled_kernels(ask):
    assert "int8 by" not in ask("show", "latest").out
    details = {"kernels": "packed torchscript", "not_native": "no \x1b VNNI"}
    found = {SQNR.key: Measurement(SQNR, 30.0, details=details)}
    write_record(HISTORY, RunRecord({}, {}, (QConfigRecord("s", "d", "q", None, found),), run_id="run600000000"))
    lines = ask("show", "run6").out.splitlines()
    by = "int8 by packed torchscript, no compiled kernels: no \\x1b VNNI"
    assert lines[lines.index("s[q] on d data") + 1] == by
    assert lines[-1] == f"s[q]: {by}"


@pytest.mark.usefixtures("project")
def test_show_as_json_is_the_record_itself(ask):
    path = list_records(HISTORY)[-1]
    assert ask("show", "latest", "--json").json == json.loads(path.read_text())


def test_names_do_nothing_to_a_terminal(ask, project):
    hostile = "a\x1b[31m\u202eb\n::error::x"
    made = Made(day=9, suite=hostile, qconfigs=(hostile,), reason=hostile, verdict=Verdict.INCONCLUSIVE)
    write_record(HISTORY, run(Made(**{**vars(made), "more": {"branch": hostile, "commit_subject": hostile}})))
    for command in (("list", "runs"), ("show", "latest"), ("list", "runs", "--json"), ("show", "latest", "--json")):
        said = ask(*command)
        assert said.status == 0
        assert not {"\x1b", "\u202e"} & set(said.out + said.err)
        assert not any(line.startswith("::") for line in said.out.splitlines())


def completed(words):
    environment = {**os.environ, "_PYTEST_PTQ_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "pytest_ptq.cli"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.usefixtures("project")
def test_names_of_runs_and_suites_are_completed(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert completed("pytest-ptq show run3") == ["run30000"]
    assert completed("pytest-ptq show la") == ["latest"]
    assert "resnet50" in completed("pytest-ptq profile res")
