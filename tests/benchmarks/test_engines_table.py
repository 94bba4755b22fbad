"""The comparison of engines in their runtimes: who is held against whom, with which verdict."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
from test_latency_table import engine

from benchmarks import engines, engines_accuracy, ours_runtimes
from benchmarks.accuracy_cases import Case
from benchmarks.accuracy_rows import METRICS, Row
from benchmarks.engines_text import kernels_section, latency_goals, latency_section
from benchmarks.latency_rows import Cell, Engine
from pytest_ptq.errors import UnknownNameError
from pytest_ptq.metrics import ACCURACY_DROP, SQNR

NAMES = {engine.key: engine.name for engine, _ in engines.select_engines(None)}


def cell(model: str = "resnet18", **more: Engine) -> Cell:
    found = {
        "fp32_openvino": engine(8.0, 8.0),
        "int8_openvino": engine(2.0, 2.0),
        "nncf_openvino": engine(4.0, 4.0),
        "fp32_onnxruntime": engine(6.0, 6.0),
        "int8_onnxruntime": engine(9.0, 9.0),
        "onnxruntime_minmax": engine(9.0, 9.0),
    }
    return Cell(model, 1, {}, 1, {**found, **more})


def lines(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[c.strip() for c in row[1:-1].split("|")] for row in rows[2:]]


def test_every_engine_is_held_against_fp32_of_its_own_runtime() -> None:
    found = {line[2]: line for line in lines(latency_section(1, [cell()], NAMES, engines.PAIRINGS))}
    assert found["**int8, this, in OpenVINO**"][4:] == ["0.250 [0.250, 0.250]", "pass"]
    assert found["NNCF -> OpenVINO"][4:] == ["0.500 [0.500, 0.500]", "pass"]
    assert found["**int8, this, in ONNX Runtime**"][4:] == ["1.500 [1.500, 1.500]", "FAIL"]
    assert found["fp32 in OpenVINO"][3:] == ["8.00 [8.00, 8.00]", "", ""]


def test_a_ratio_astride_the_limit_is_inconclusive() -> None:
    text = latency_section(1, [cell(int8_openvino=engine(7.0, 9.2))], NAMES, engines.PAIRINGS)
    found = {line[2]: line for line in lines(text)}
    assert found["**int8, this, in OpenVINO**"][5] == "inconclusive"


def test_an_engine_that_fails_fails_the_gate_and_says_why() -> None:
    text = latency_section(1, [cell(nncf_openvino=Engine(error="no such op"))], NAMES, engines.PAIRINGS)
    found = {line[2]: line for line in lines(text)}
    assert found["NNCF -> OpenVINO"][3:] == ["failed: no such op", "", "FAIL"]


def test_goals_hold_ours_against_the_rival_of_the_same_runtime() -> None:
    cells = [cell(), cell("resnet50", int8_openvino=engine(8.0, 8.0))]
    found = {line[0]: line[2:] for line in lines(latency_goals(cells, NAMES, engines.PAIRINGS, ["resnet18"]))}
    # sqrt(2/4 * 8/4) = 1.
    assert found["this in OpenVINO / NNCF -> OpenVINO, 1 thread: geometric mean"] == [
        "1.000, largest 2.00 (resnet50)", "yes",
    ]  # fmt: skip
    text = latency_goals([cell(int8_onnxruntime=engine(9.1, 9.1))], NAMES, engines.PAIRINGS, engines.MODELS)
    found = {line[0]: line[2:] for line in lines(text)}
    said, reached = found["this in ONNX Runtime / ONNX Runtime MinMax, 1 thread: geometric mean"]
    assert (said, reached) == ("1.011, largest 1.01 (resnet18), 1 of 6 models", "no")


def test_kernels_are_shown_of_each_model_once() -> None:
    counted = Engine(turns=engine(1.0, 1.0).turns, how="21 of 21 convolutions and products in int8")
    text = kernels_section([cell(int8_openvino=counted), cell()], NAMES, engines.PAIRINGS)
    assert lines(text) == [["resnet18", "OpenVINO", "**int8, this, in OpenVINO**", counted.how]]


def test_what_earlier_sources_gave_is_marked_wherever_it_is_shown() -> None:
    counted = Engine(turns=engine(1.0, 1.0).turns, how="21 of 21 convolutions and products in int8")
    old = replace(cell(int8_openvino=counted), stale=True)
    assert lines(kernels_section([old], NAMES, engines.PAIRINGS))[0][0] == "resnet18 *"
    rows = [row("mobilenet_v2_kit", key, 0.5, 21.0) for key in ("int8_openvino", "nncf_openvino")]
    assert "measured with earlier sources" not in engines_accuracy.section(rows)
    assert "21.0 *" in (text := engines_accuracy.section([replace(rows[0], stale=True), rows[1]]))
    assert "\\* measured with earlier sources" in text


def test_filters() -> None:
    assert [e.key for e, rival in engines.select_engines(["nncf*", "int8_openvino"])] == [
        "int8_openvino", "nncf_openvino",
    ]  # fmt: skip
    assert "vit_b_16" not in engines.MODELS
    with pytest.raises(UnknownNameError, match="nncf_openvino"):
        engines.select_engines(["nncf_openvina"])


def row(suite: str, engine: str, drop: float, sqnr: float) -> Row:
    values = {metric.key: 0.0 for metric in METRICS} | {ACCURACY_DROP.key: drop, SQNR.key: sqnr}
    return Row(suite, engine, {}, values, right="1" * 10)


def test_accuracy_has_the_verdict_of_the_gate_and_goals_by_runtime() -> None:
    text = engines_accuracy.section([
        row("mobilenet_v2_kit", "int8_openvino", 0.5, 21.44),
        row("mobilenet_v2_kit", "nncf_openvino", 1.5, 21.41),
        row("mobilenet_v2_kit", "int8_onnxruntime", 0.5, 20.0),
        row("mobilenet_v2_kit", "onnxruntime_minmax", 0.5, 21.0),
    ])  # fmt: skip
    table, _, goals = text.partition("### Goals of accuracy")
    assert [line[-1] for line in lines(table)] == ["pass", "FAIL", "pass", "pass"]
    assert [line[-1] for line in lines(goals)] == ["no", "yes"]


def test_rows_of_cases_without_photographs_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PTQ_IMAGENET_KIT", raising=False)
    monkeypatch.chdir(tmp_path)
    kit = engines_accuracy.select_cases(["*_kit"])
    assert [case.name for case in kit] == list(engines_accuracy.KIT)
    options = argparse.Namespace(keep=False, kept_only=False)
    found = engines_accuracy.rows(kit, ["int8"], options, {"torch": "2.15"})
    assert [row.error for row in found] == [found[0].error, found[1].error]
    assert "there are no photographs" in found[0].error
    assert "not measured" in engines_accuracy.section(found)


def test_accuracy_is_measured_of_what_the_filters_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str]]] = []

    class Measuring:
        def __init__(self, case: Case, found: object, **_: object) -> None:
            self.case = case

        def rows(self, wanted: list[str]) -> list[Row]:
            asked.append((self.case.name, wanted))
            return []

    monkeypatch.setattr(engines_accuracy, "Measuring", Measuring)
    monkeypatch.setattr(engines, "versions", lambda _: {"torch": "2.15"})
    monkeypatch.setattr(engines, "measured_cells", lambda *_: [])
    monkeypatch.setattr(engines, "write_json", lambda *_: None)
    engines.table(["--case", "resnet*", "--case", "*v2_kit", "--engine", "int8*", "--engine", "nncf*"])
    own = ["x86", "int8_onnxruntime", "int8_openvino", "nncf_openvino"]
    assert asked == [("resnet50", own), ("mobilenet_v2_kit", own)]
    engines.table(["--case", "resnet50", "--engine", "fp32*"])
    assert len(asked) == 2
    engines.table(["--case", "resnet50"])
    assert set(asked[2][1]) == {"x86", *engines_accuracy.ENGINES}
    with pytest.raises(UnknownNameError, match="usage: --case: unknown case 'resnet5'"):
        engines.table(["--case", "resnet5"])
    with pytest.raises(UnknownNameError, match="unknown engine 'x86'"):
        engines.table(["--engine", "x86"])


def test_what_runs_in_a_runtime_is_stale_when_the_runtime_is_called_otherwise() -> None:
    there = {rival.key: {path.name for path in rival.sources} for rival in (*ours_runtimes.RIVALS, *engines.RIVALS)}
    assert there["int8_openvino"] == {"engine", "runtimes", "in_runtime.py"}
    assert there["nncf_openvino"] == there["onnxruntime_minmax"] == {"runtimes", "in_runtime.py"}
    assert all(path.exists() for rival in ours_runtimes.RIVALS for path in rival.sources)
