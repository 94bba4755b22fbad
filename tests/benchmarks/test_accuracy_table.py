"""The accuracy table: which rows are asked for, how they are shown, and what they say of the goals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks import accuracy
from benchmarks.accuracy import select
from benchmarks.accuracy_cases import cases, first
from benchmarks.accuracy_rows import METRICS, Row, sources, store, stored
from benchmarks.accuracy_text import BEGIN, END, HEADS, goals, insert, section
from benchmarks.rivals import RIVALS
from pytest_ptq.errors import UnknownNameError, UsageError
from pytest_ptq.qconfig import PRESETS

NAMES = {rival.key: rival.name for rival in RIVALS}


def row(engine: str, drop: float = 0.0, sqnr: float = 20.0, right: str = "1110", **more: object) -> Row:
    values = (75.0, 75.0 - drop, drop, 1.25, sqnr)
    return Row("net", engine, {"data": "1"}, {m.key: v for m, v in zip(METRICS, values, strict=True)}, right, **more)  # type: ignore[arg-type]


def cells(text: str) -> list[list[str]]:
    """The cells of all lines of a Markdown table but the rule."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def reached(*rows: Row) -> list[str]:
    return [line[-1] for line in cells(goals({"net": rows}, RIVALS))[1:]]


def test_a_row_shows_figures_notes_or_the_error() -> None:
    failed = Row("net", "nncf_openvino", {}, {}, error="it | broke")
    text = section("net", [row("x86", 0.125, notes="left out"), row("best", stale=True), failed], NAMES)
    assert text.startswith("### net\n\n4 images.")
    head, x86, best, nncf = cells(text)
    assert head == HEADS
    assert x86 == ["`x86`", "75.00", "74.88", "0.12", "1.25", "20.0", "left out"]
    assert best[-1] == "measured with earlier sources"
    assert nncf == ["NNCF -> OpenVINO", "", "", "", "", "", "it \\| broke"]


def test_goals_are_read_off_the_rows() -> None:
    rivals = (row("onnxruntime_minmax", 0.5, 20.0), row("onnxruntime_percentile", 0.25, 22.0))
    assert reached(*rivals, row("best", 0.25, 23.0), row("x86", 0, 20.0)) == ["yes", "yes", "yes"]
    assert reached(*rivals, row("best", 0.26, 22.9), row("x86", 0, 19.9)) == ["no", "no", "no"]
    text = goals({"net": [*rivals, row("best", 0.26, 22.9), row("x86", 0, 19.9)]}, RIVALS)
    assert "at most 0.25 pp (ONNX Runtime Percentile)" in text
    assert "23.0 dB (ONNX Runtime Percentile: 22.0)" in text


def test_what_is_shown_as_equal_counts_as_equal() -> None:
    rows = row("onnxruntime_minmax", sqnr=20.04), row("best", sqnr=20.96), row("x86", sqnr=19.96)
    assert reached(*rows) == ["yes", "yes", "yes"]


@pytest.mark.parametrize(
    "rows", [[], [row("best"), row("x86")], [row("nncf_openvino")], [Row("net", "best", {}, {}, error="broke")]]
)
def test_a_goal_without_its_rows_is_neither_reached_nor_missed(rows: list[Row]) -> None:
    assert reached(*rows) == ["not known"] * 3


def test_the_difference_in_images_is_told() -> None:
    """Six images that only the rival has right, two that only `best` has: exact McNemar p = 2 * 37 / 256."""
    best, rival = "0" * 6 + "11" + "1" * 12, "1" * 6 + "00" + "1" * 12
    text = goals({"net": [row("nncf_openvino", 10.0, right=rival), row("best", 30.0, right=best)]}, RIVALS)
    assert "30.00 pp, +4 images of 20 wrong, p = 0.29" in text


def test_filters() -> None:
    assert [*select(None)] == [case.name for case in cases()]
    assert select(["resnet50:best", "resnet50:x86"]) == {"resnet50": ["x86", "best"]}
    found = select(["*:onnxruntime_*", "mobilenet_v2"])
    assert found["resnet50"] == ["onnxruntime_minmax", "onnxruntime_entropy", "onnxruntime_percentile"]
    assert found["mobilenet_v2"] == [*PRESETS, *NAMES]
    with pytest.raises(UnknownNameError, match="resnet50"):
        select(["resnet51"])
    with pytest.raises(UnknownNameError, match="nncf_openvino"):
        select(["resnet50:nncf"])


def test_a_damaged_or_foreign_file_is_no_row(tmp_path: Path) -> None:
    store(row("x86"), tmp_path)
    assert stored("net", "x86", {"data": "1"}, tmp_path) == row("x86")
    assert stored("net", "x86", {"data": "2"}, tmp_path) == row("x86", stale=True)
    assert stored("net", "best", {"data": "1"}, tmp_path) is None
    path = tmp_path / "net" / "x86.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    for damaged in ("{", "[]", "{}", json.dumps({**fields, "values": {}}), json.dumps({**fields, "more": 1})):
        path.write_text(damaged, encoding="utf-8")
        assert stored("net", "x86", {"data": "1"}, tmp_path) is None


def test_a_row_with_an_error_is_not_kept(tmp_path: Path) -> None:
    store(Row("net", "x86", {}, {}, error="broke"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_sources_know_names_and_contents(tmp_path: Path) -> None:
    hashes = set()
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.py", "2")):
        for old in tmp_path.iterdir():
            old.unlink()
        (tmp_path / name).write_text(text, encoding="utf-8")
        hashes.add(sources(tmp_path))
    assert len(hashes) == 3


def test_the_first_images() -> None:
    batches = [(torch.zeros(4, 1), torch.zeros(4)) for _ in range(3)]
    assert [len(labels) for _, labels in first(batches, 6)] == [4, 2]
    assert [len(labels) for _, labels in first(batches, 4)] == [4]
    assert [len(labels) for _, labels in first(batches, 99)] == [4, 4, 4]


def test_the_tables_go_between_the_marks(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n", encoding="utf-8")
    insert(path, "new\n")
    insert(path, "new\n")
    assert path.read_text(encoding="utf-8") == f"above\n{BEGIN}\n\nnew\n\n{END}\nbelow\n"
    path.write_text(f"{END} {BEGIN}", encoding="utf-8")
    with pytest.raises(UsageError, match="marks of the accuracy table are missing"):
        insert(path, "new")
    with pytest.raises(UsageError, match="FileNotFoundError"):
        insert(tmp_path / "no.md", "new")


def test_the_command_says_where_there_are_no_photographs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PTQ_IMAGENET_KIT", raising=False)
    monkeypatch.setattr(accuracy, "versions", lambda _: {"torch": "2.15"})
    page, data = tmp_path / "page.md", tmp_path / "rows.json"
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    text = accuracy.table(["--only", "*_kit", "--json", str(data), "--into", str(page)])
    assert text.count("Not measured: usage: mobilenet_v2_kit: there are no photographs. Let PTQ_IMAGENET_KIT name") == 1
    assert text in page.read_text(encoding="utf-8")
    assert json.loads(data.read_text(encoding="utf-8")) == []
