"""Two runs held against one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cli.made import Made, latency, run
from pytest_ptq import metrics as m
from pytest_ptq.metrics import Measurement
from pytest_ptq.store.history import write_record

HISTORY = Path(".ptq/history")


def keep(made):
    write_record(HISTORY, made)
    return made.run_id


def steps(said):
    return {row["metric"]: row["step"] for row in said.json["rows"]}


@pytest.mark.usefixtures("project")
def test_a_regression_is_told_with_its_interval(ask):
    said = ask("compare", "latest~5", "latest")
    assert said.status == 0
    (row,) = [line for line in said.out.splitlines() if line.startswith("net  ")]
    assert row.split()[-1] == "worse"
    assert "0.400 [0.398, 0.402]  0.505 [0.502, 0.508]  +26.2 % [+25.3, +27.2]" in row
    assert "worse by more than 10 %" in said.out
    assert "3 values stayed within tolerance or are not judged" in said.out
    assert "before  run00000  2026-01-31 12:00  c0c0c0c0c0c0  Work of day 0" in said.out


@pytest.mark.usefixtures("project")
def test_a_regression_fails_on_demand(ask):
    assert ask("compare", "run0", "run5", "--fail-on-regression").status == 1
    assert ask("compare", "run5", "run0", "--fail-on-regression").status == 0
    assert ask("compare", "run0", "run3", "--fail-on-regression").status == 0
    assert ask("compare", "run0", "run0", "--fail-on-regression").status == 0


@pytest.mark.usefixtures("project")
def test_as_json(ask):
    said = ask("compare", "run0", "run5", "--json")
    assert steps(said) == {
        "latency_ratio": "worse",
        "accuracy_drop_pp": "same",
        "sqnr_db": "same",
        "size_reduction_x": "same",
    }
    row = said.json["rows"][0]
    assert row["low"] < row["delta"] < row["high"]
    assert (said.json["before"], said.json["after"], said.json["regressed"]) == ("run00000", "run50000", True)


@pytest.mark.usefixtures("project")
def test_an_improvement_and_all_that_stayed(ask):
    said = ask("compare", "run5", "run0", "--all")
    rows = [line.split()[-1] for line in said.out.splitlines() if line.startswith("net  ")]
    assert rows == ["better", "same", "same", "same"]


@pytest.mark.usefixtures("project")
def test_another_machine_is_shown_and_not_judged(ask):
    other = keep(run(Made(day=8, ratio=0.9, machine="avx2/onednn/2t/torch2.15")))
    said = ask("compare", "run0", other)
    assert "the machines differ" in said.out
    assert "+125.0 %" in said.out
    assert set(steps(ask("compare", "run0", other, "--json")).values()) == {"unjudged"}
    assert ask("compare", "run0", other, "--fail-on-regression").status == 1, "nothing was compared"


@pytest.mark.usefixtures("project")
def test_what_one_run_lacks_is_told(ask):
    both = keep(run(Made(day=8, qconfigs=("x86", "minmax"))))
    said = ask("compare", "run0", both, "--fail-on-regression")
    assert said.status == 0
    assert "net[minmax] on embedded data is in the second run only" in said.out
    assert "net[minmax] on embedded data is in the first run only" in ask("compare", both, "run0").out


@pytest.mark.usefixtures("project")
def test_a_gate_that_is_measured_no_more_is_a_regression(ask):
    whole = run(Made(day=8))
    result = whole.results[0]
    rest = {key: found for key, found in result.measurements.items() if key != m.LATENCY_RATIO.key}
    lost = keep(replace(whole, results=(replace(result, measurements=rest, judgements={}),)))
    said = ask("compare", "run0", lost, "--fail-on-regression")
    assert said.status == 1
    assert "net[x86]: int8/fp32 latency was judged before and is not measured now" in said.out
    failed = keep(replace(run(Made(day=9)), results=(replace(result, errors=("accuracy: no\x1b luck",)),)))
    said = ask("compare", "run0", failed, "--fail-on-regression")
    assert said.status == 1
    assert r"no\x1b luck" in said.out


@pytest.mark.usefixtures("project")
def test_runs_that_have_nothing_in_common(ask):
    other = keep(run(Made(day=8, suite="other")))
    said = ask("compare", "run0", other, "--fail-on-regression")
    assert said.status == 1
    assert "nothing in common" in said.out


@pytest.mark.usefixtures("project")
def test_many_questions_share_one_chance(ask):
    def wide(day, ratio, error):
        made = run(Made(day=day, qconfigs=tuple(f"q{i}" for i in range(60))))
        return keep(
            replace(
                made,
                results=tuple(
                    replace(r, measurements={m.LATENCY_RATIO.key: latency(ratio, error)}) for r in made.results
                ),
            )
        )

    said = ask("compare", wide(8, 0.4, 0.002), wide(9, 0.464, 0.008), "--json")
    assert {row["step"] for row in said.json["rows"]} == {"open"}


@pytest.mark.usefixtures("project")
def test_milliseconds_are_told_and_not_judged(ask):
    def slow(day, ms):
        made = run(Made(day=day))
        found = {m.LATENCY_INT8.key: Measurement(m.LATENCY_INT8, ms, 0.99 * ms, 1.01 * ms)}
        result = made.results[0]
        return keep(replace(made, results=(replace(result, measurements={**result.measurements, **found}),)))

    said = ask("compare", slow(8, 1.0), slow(9, 3.0), "--json", "--fail-on-regression")
    assert said.status == 0
    assert steps(said)[m.LATENCY_INT8.key] == "unjudged"


@pytest.mark.usefixtures("project")
def test_what_ran_in_another_version_of_a_runtime_is_not_judged_and_the_rest_is(ask):
    made = run(Made(day=8, qconfigs=("x86", "x86-openvino")))
    runs = []
    for version in ("2026.4", "2026.5"):
        own = replace(made.results[1], machine_key=f"avx512_vnni/openvino/2t/openvino{version}", runtime="openvino")
        runs.append(keep(replace(made, results=(made.results[0], own), run_id=f"in{version.replace('.', '')}")))
    said = ask("compare", *runs)
    assert (
        "the machines differ (avx512_vnni/openvino/2t/openvino2026.4 and avx512_vnni/openvino/2t/openvino2026.5): "
        "net[x86-openvino] is not judged" in said.out
    )
    found = {(row["qconfig"], row["step"]) for row in ask("compare", *runs, "--json").json["rows"]}
    assert ("x86", "same") in found
    assert {step for qconfig, step in found if qconfig == "x86-openvino"} == {"unjudged"}
