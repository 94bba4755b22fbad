"""The latency table: which cells are measured, how they are shown, and what they say of the goals."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import latency, latency_cells, ours
from benchmarks.latency import BESIDE, TORCH_BASED, select, select_engines
from benchmarks.latency_models import MODELS
from benchmarks.latency_rows import Cell, Engine, ratio, store, stored
from benchmarks.latency_text import goals, section
from benchmarks.latency_worker import Turn
from pytest_ptq.errors import UnknownNameError

NAMES = {engine.key: engine.name for engine, _ in select_engines(None)}


def engine(*milliseconds: float) -> Engine:
    return Engine(tuple(Turn(ms, ms, 7) for ms in milliseconds))


def cell(model: str = "resnet50", threads: int = 1, int8: float = 8.0, best: float = 10.0, **more: Engine) -> Cell:
    engines = {
        "fp32": engine(20.0, 20.0),
        "int8": replace(engine(int8, int8), how="plain python"),
        "torch_fx_x86": engine(best, best),
        "torch_fx_onednn": engine(2 * best, 2 * best),
        "nncf_openvino": engine(best, best),
    }
    return Cell(model, threads, {"data": "1"}, 4_089_184_256, {**engines, **more})


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    return [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def found(*measured: Cell, models: Sequence[str] = ("resnet50",)) -> dict[str, tuple[str, str]]:
    """(found, reached) by goal."""
    lines = cells(goals(measured, NAMES, TORCH_BASED, models))[1:]
    return {line[0]: (line[2], line[3]) for line in lines}


def test_a_table_shows_medians_ratios_and_failures() -> None:
    broken = Engine(error="torchao PT2E: stopped after 300 s")
    text = section(1, [cell(torchao_pt2e=broken)], NAMES, TORCH_BASED)
    head, row = cells(text)
    assert text.startswith("### 1 thread, ms an image\n")
    shown = dict(zip(head, row, strict=True))
    assert shown["**int8, this**"] == "8.00 [8.00, 8.00]"
    assert shown["torchao PT2E"] == "failed"
    assert shown["int8 / best rival"] == "0.80 [0.80, 0.80]"
    assert shown["int8 / fp32 frozen"] == "0.40 [0.40, 0.40]"
    assert shown["int8 by"] == "plain python"
    assert "- resnet50, torchao PT2E: torchao PT2E: stopped after 300 s" in text


def test_ratios_are_taken_within_rounds() -> None:
    """A machine at half its speed in the second round slows both, and their ratio stays."""
    slowed = cell(int8=8.0)
    engines = {**slowed.engines, "int8": engine(8.0, 16.0), "torch_fx_x86": engine(10.0, 20.0)}
    estimate = ratio(Cell("m", 1, {}, 1, engines), "int8", "torch_fx_x86")
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.8, 0.8, 0.8))


def test_the_best_rival_is_torch_based() -> None:
    faster = cell(nncf_openvino=engine(1.0, 1.0))
    assert faster.best(TORCH_BASED) == "torch_fx_x86"
    assert Cell("m", 1, {}, 1, {"int8": engine(1.0, 1.0)}).best(TORCH_BASED) is None
    assert not set(BESIDE) & set(TORCH_BASED)


def test_goals() -> None:
    said = found(cell(), cell("resnet18", int8=4.0), models=("resnet50", "resnet18"))
    prefix = "int8 / best torch-based rival, 1 thread: "
    assert said[prefix + "geometric mean"] == ("0.566 over 2 models", "yes")  # sqrt(0.8 * 0.4)
    assert said[prefix + "largest"] == ("0.80 (resnet50, torch FX x86)", "yes")
    assert said["int8 / OpenVINO, resnet18, 1 thread"] == ("0.40 [0.40, 0.40]", "yes")
    # 4.089e9 MACs at 500e9 a second: 8.18 ms.
    assert said["int8 / arithmetic limit of VNNI (8.2 ms), resnet50, 1 thread"] == ("0.98", "yes")


def test_a_machine_below_its_limit_is_told() -> None:
    """512 x 1024 x 512 in 1 ms are 268 GMAC/s, at which 4.089e9 MACs take 15.23 ms."""
    said = found(cell(int8=16.0, matmul=engine(1.0, 1.0)))
    expected = "1.96; 1.05 at the 268 GMAC/s that an int8 matrix product reached in the same rounds"
    assert said["int8 / arithmetic limit of VNNI (8.2 ms), resnet50, 1 thread"] == (expected, "no")
    assert "matrix" not in section(1, [cell(matmul=engine(1.0, 1.0))], NAMES, TORCH_BASED)


def test_goals_that_are_missed() -> None:
    said = found(cell(int8=11.1))
    assert [reached for _, reached in said.values()] == ["no", "no", "no", "no"]
    assert said["int8 / arithmetic limit of VNNI (8.2 ms), resnet50, 1 thread"][0] == "1.36"


def test_a_goal_for_all_models_is_not_reached_by_some() -> None:
    said = found(cell(), models=("resnet50", "resnet18"))
    assert said["int8 / best torch-based rival, 1 thread: geometric mean"][1] == "not known"
    said = found(cell(int8=11.0), models=("resnet50", "resnet18"))
    assert said["int8 / best torch-based rival, 1 thread: largest"][1] == "no"
    assert not any("limit of VNNI" in goal for goal in found(cell(threads=2), cell("resnet18")))


def test_nothing_is_reached_where_this_engine_failed() -> None:
    failed = Cell("resnet50", 1, {}, 1, {**cell().engines, "int8": Engine(error="broke")})
    assert {reached for _, reached in found(failed).values()} == {"not known"}


def test_filters() -> None:
    assert select(None) == [(model, threads) for threads in (1, 2) for model in MODELS]
    assert select(["resnet18:2", "vit*:1"]) == [("vit_b_16", 1), ("resnet18", 2)]
    with pytest.raises(UnknownNameError, match="resnet18:1"):
        select(["resnet19:1"])
    assert [e.key for e, rival in select_engines(["int8", "torch_fx_*"]) if rival] == [*TORCH_BASED[:2]]
    with pytest.raises(UnknownNameError, match="torchao_pt2e"):
        select_engines(["torchao"])


def test_a_damaged_or_foreign_file_is_no_cell(tmp_path: Path) -> None:
    store(cell(), tmp_path)
    assert stored("resnet50", 1, {"data": "1"}, tmp_path) == cell()
    other = stored("resnet50", 1, {"data": "2"}, tmp_path)
    assert other is not None
    assert other.stale
    assert stored("resnet50", 2, {"data": "1"}, tmp_path) is None
    path = tmp_path / "resnet50-1.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    for damaged in ("{", "[]", "{}", json.dumps({**fields, "engines": {}}), json.dumps({**fields, "more": 1})):
        path.write_text(damaged, encoding="utf-8")
        assert stored("resnet50", 1, {"data": "1"}, tmp_path) is None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int]]:
    """The command without processes and models, in an empty folder; what it measured."""
    seen: list[tuple[str, int]] = []

    def measure(plan: latency.latency_crew.Plan, *_: object) -> dict[str, Engine]:
        seen.append((plan.model, plan.threads))
        return dict(cell().engines)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(latency_cells.latency_crew, "measure", measure)
    monkeypatch.setattr(latency, "versions", lambda _: {"torch": "2.15"})
    monkeypatch.setattr(latency.latency_models, "build", lambda _: None)
    monkeypatch.setattr(latency.latency_models, "macs", lambda *_: 1)
    return seen


def test_what_was_measured_is_not_measured_again(asked: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    first = latency.table(["--only", "resnet18:1"])
    assert latency.table(["--only", "resnet18"]).count("| resnet18 ") == 2
    assert asked == [("resnet18", 1), ("resnet18", 2)]
    assert latency.table(["--only", "resnet18:1", "--kept-only"]) == first
    monkeypatch.setattr(latency_cells, "OWN_HASH", "another")
    kept = latency.table(["--only", "*:1", "--kept-only"])
    assert "resnet18 *" in kept
    assert "measured with earlier sources" in kept
    assert len(asked) == 2
    assert "resnet18 *" not in latency.table(["--only", "resnet18:1"])
    assert len(asked) == 3
    latency.table(["--only", "resnet18:1", "--rounds", "5"])
    assert len(asked) == 4


def test_sources_of_an_engine_make_its_cells_stale(asked: list[tuple[str, int]], tmp_path: Path) -> None:
    code = tmp_path / "kernel.py"
    known, _ = ours.RIVALS[:2]
    engines = [(replace(known, sources=(code,)), False)]
    options = argparse.Namespace(rounds=1, keep=False, kept_only=False, lock=[])
    for text, count in (("a = 1", 1), ("a = 1", 1), ("a = 2", 2)):
        code.write_text(text, encoding="utf-8")
        latency_cells.measured_cells([("resnet18", 1)], engines, {}, options, tmp_path / "cells")
        assert len(asked) == count


def test_json_has_machine_versions_and_every_turn(asked: list[tuple[str, int]], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- latency: begin -->\n<!-- latency: end -->\n", encoding="utf-8")
    text = latency.table(["--only", "resnet18:1", "--into", str(page)])
    assert text in page.read_text(encoding="utf-8")
    said = json.loads((tmp_path / ".ptq" / "latency" / "latency.json").read_text(encoding="utf-8"))
    assert said["versions"]["torch"] == "2.15"
    assert said["machine"]["cores"] >= 1
    assert said["cells"][0]["engines"]["int8"]["turns"][0]["median_ms"] == 8.0
