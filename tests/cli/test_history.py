"""What metrics did from run to run, and what is kept of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cli.made import KEY, Made, latency, run
from pytest_ptq.cli.sparkline import sparkline
from pytest_ptq.metrics import Direction, Measurement, Metric
from pytest_ptq.store.baselines import Baselines
from pytest_ptq.store.history import list_records, write_record
from pytest_ptq.store.provenance import Provenance
from pytest_ptq.store.record import QConfigRecord

HISTORY = Path(".ptq/history")


@pytest.fixture
def long(project):
    """Eight more slow days: enough to see since when."""
    for day in range(6, 14):
        write_record(HISTORY, run(Made(day=day, ratio=0.5 + 0.001 * day)))
    return project


@pytest.mark.usefixtures("long")
def test_an_overview_says_since_when(ask):
    said = ask("history", "net")
    assert said.status == 0
    (row,) = [line for line in said.out.splitlines() if "latency_ratio" in line]
    assert row.split()[:4] == ["x86", "embedded", "latency_ratio", KEY]
    assert "0.400" in row
    assert "0.513" in row
    assert "▁▁▁▁|" in row
    assert row.endswith("  c4c4c4c4c4c4: 0.402 -> 0.508")
    assert "sqnr_db" not in said.out, "nobody judged it"
    assert "advice" in said.out


@pytest.mark.usefixtures("long")
def test_one_metric_in_full(ask):
    said = ask("history", "net", "--metric", "latency_ratio")
    lines = said.out.splitlines()
    assert lines[0] == f"net[x86] on embedded data, int8/fp32 latency, {KEY}: 14 runs"
    (marked,) = [line for line in lines if "<- changed" in line]
    assert "run40000" in marked
    assert "0.504 [0.501, 0.507]  0.8" in marked
    assert "changed since 2026-02-04 12:00, run run40000, commit c4c4c4c4c4c4: 0.402 -> 0.508, p=0.004" in lines
    assert said.out.count("\n2026") == 14
    assert "no change" in ask("history", "net", "--metric", "sqnr_db").out
    assert ask("history", "net", "--metric", "latency_ratio", "--last", "3").out.count("\n2026") == 3


@pytest.mark.usefixtures("long")
def test_as_json(ask):
    (series,) = ask("history", "net", "--metric", "latency_ratio", "--json").json["series"]
    assert (series["suite"], series["qconfig"], series["machine"], series["metric"]) == (
        "net",
        "x86",
        KEY,
        "latency_ratio",
    )
    assert [point["value"] for point in series["points"]][:2] == [0.4, 0.401]
    (change,) = series["changes"]
    assert (change["run_id"], change["commit"]) == ("run40000", "c4" * 20)


@pytest.mark.usefixtures("project")
def test_machines_are_never_mixed(ask):
    write_record(HISTORY, run(Made(day=7, ratio=0.9, machine="other")))
    found = ask("history", "net", "--metric", "latency_ratio", "--json").json["series"]
    assert [(series["machine"], len(series["points"])) for series in found] == [(KEY, 6), ("other", 1)]
    (only,) = ask("history", "net", "--metric", "latency_ratio", "--machine", "oth*", "--json").json["series"]
    assert only["machine"] == "other"


@pytest.mark.usefixtures("project")
def test_a_metric_of_a_users_own_has_its_title(ask):
    mine = Metric("miou_percent", "mean IoU", "%", Direction.HIGHER_IS_BETTER, 1)
    result = QConfigRecord("net", "embedded", "x86", None, {mine.key: Measurement(mine, 71.23)})
    write_record(HISTORY, replace(run(Made(day=8)), results=(result,)))
    assert "mean IoU" in ask("history", "net", "--metric", "miou_percent").out
    assert "71.2 %" in ask("history", "net", "--metric", "miou_percent").out


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("history", "nett"), "unknown suite with runs 'nett'. Did you mean 'net'?"),
        (
            ("history", "net", "--metric", "latency_ratoi"),
            "unknown metric 'latency_ratoi'. Did you mean 'latency_ratio'?",
        ),
        (("history", "net", "--qconfig", "y*"), "no series is left"),
        (("history", "net", "--last", "0"), "--last"),
        (("history",), "Missing argument 'SUITE'"),
        (("prune",), "nothing says what is to be removed"),
        (("prune", "--keep", "-1"), "--keep"),
        (("prune", "--keep", "1", "--baselines", "none"), "--baselines none: there is no such folder"),
        (("history", "net", "--history", "nowhere"), "--history nowhere: there is no such folder"),
        (("import",), "Missing argument 'FILE...'"),
    ],
)
@pytest.mark.usefixtures("project")
def test_misuse_is_one_sentence(ask, args, sentence):
    said = ask(*args)
    assert (said.status, said.out) == (4, "")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert len(list_records(HISTORY)) == 6


@pytest.mark.usefixtures("project")
def test_pruning_keeps_what_a_baseline_refers_to(ask):
    origin = Provenance("2026-02-01", "c1" * 20, "torch 2.15.0")
    baselines = Baselines.empty(Path("baselines/net.json"))
    baselines.with_recorded("embedded", KEY, "x86", [latency(0.4)], origin).write()
    said = ask("prune", "--keep", "3", "--dry-run")
    assert said.out == "would remove 2 runs\nkept 1 run that baselines refer to\n"
    assert len(list_records(HISTORY)) == 6
    said = ask("prune", "--keep", "3", "--json")
    assert [name[-13:] for name in said.json["removed"]] == ["run00000.json", "run20000.json"]
    assert [name[-13:] for name in said.json["kept_for_baselines"]] == ["run10000.json"]
    assert len(list_records(HISTORY)) == 4
    assert ask("prune", "--days", "1").out.startswith("removed 3 runs\nkept 1 run")
    Path("more").mkdir()
    assert ask("prune", "--days", "1", "--baselines", "more").out.startswith("removed 0 runs\nkept 1 run")
    shutil.rmtree("baselines")
    assert ask("prune", "--days", "1").out == "removed 1 run\n"


@pytest.mark.usefixtures("project")
def test_a_baseline_that_cannot_be_read_keeps_everything(ask):
    Path("baselines").mkdir()
    Path("baselines/net.json").write_text("{")
    said = ask("prune", "--keep", "0")
    assert said.status == 1
    assert "baselines/net.json:1" in said.err
    assert len(list_records(HISTORY)) == 6


@pytest.mark.usefixtures("project")
def test_baselines_with_limits_on_metrics_of_a_users_own_are_read(ask):
    Path("baselines").mkdir()
    tree = {"schema": 2, "suite": "net", "data": {"embedded": {"limits": {"x86": {"miou_percent": 70.0}}}}}
    Path("baselines/net.json").write_text(json.dumps(tree))
    assert ask("prune", "--keep", "3").out == "removed 3 runs\n"


@pytest.mark.usefixtures("project")
def test_importing_runs_is_merging_histories(ask, tmp_path):
    other = tmp_path / "other"
    files = [write_record(other, run(Made(day=day))) for day in (5, 8, 9)]
    said = ask("import", *map(str, files))
    assert said.out.splitlines()[-1] == "2 runs imported, 1 known already"
    assert [path.name for path in files] == [path.name for path in list_records(HISTORY)[-3:]]
    assert ask("import", *map(str, files), "--json").json == {"written": [], "known": 3}


@pytest.mark.usefixtures("project")
def test_nothing_is_imported_when_a_file_is_damaged(ask, tmp_path):
    good = write_record(tmp_path / "other", run(Made(day=8)))
    (tmp_path / "bad.json").write_text("{}")
    said = ask("import", str(good), "bad.json")
    assert (said.status, said.out) == (1, "")
    assert "bad.json: this is not a run record" in said.err
    assert len(list_records(HISTORY)) == 6


@pytest.mark.usefixtures("project")
def test_what_was_never_judged_is_shown_all_the_same(ask):
    made = run(Made(day=8, suite="t.py::test_a"))
    write_record(HISTORY, replace(made, results=(replace(made.results[0], judgements={}),)))
    assert "sqnr_db" in ask("history", "t.py::test_a").out


def test_a_sparkline_goes_from_low_to_high():
    assert sparkline([1.0, 2.0, 3.0, 8.0]) == "▁▂▃█"
    assert sparkline([5.0, 5.0]) == "▅▅"
    assert sparkline([]) == ""
    assert sparkline([1.0, 1.0, 2.0], changes=[2]) == "▁▁|█"
    assert sparkline([0.0] * 100 + [1.0], changes=[0]) == "▁" * 59 + "█"
    assert sparkline([-1.7e308, 1.7e308]) == "▁█"
    assert sparkline([0.0, 1.0], bars="ab") == "ab"
