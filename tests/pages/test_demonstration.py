"""docs/demonstration.md, its report and its records say the same."""

from __future__ import annotations

import re
import shlex
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.demonstration import PACKED
from benchmarks.demonstration_story import APP, COMMITS, KIOSK, PLANTED, TOO_LARGE, position
from benchmarks.demonstration_team import SUITE
from benchmarks.demonstration_text import text_of
from pages.fences import DOCS, blocks
from pytest_ptq import metrics as m
from pytest_ptq.cli.app import app
from pytest_ptq.metrics import Verdict
from pytest_ptq.report.markdown import LONGEST
from pytest_ptq.store.history import open_history
from pytest_ptq.store.record import RunRecord
from tests.report.page_reader import Element, data_of, read

FOLDER = DOCS / "demonstration"
PAGE = (DOCS / "demonstration.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demonstration")
    with tarfile.open(FOLDER / PACKED) as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def runs(unpacked: Path) -> list[RunRecord]:
    return list(open_history(unpacked / "history"))


@pytest.fixture(scope="module")
def report() -> Element:
    return read((FOLDER / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def planted(runs: list[RunRecord]) -> RunRecord:
    (found,) = [run for run in runs if run.commit_subject == PLANTED]
    return found


def test_every_commit_of_the_story_has_its_run(runs: list[RunRecord]) -> None:
    assert [run.commit_subject for run in runs] == [commit.subject for commit in COMMITS]
    assert len({run.commit for run in runs}) == 60
    assert len({run.machine_key for run in runs}) == 1
    measured = [result for run in runs for result in run.results]
    assert {(result.suite, result.qconfig) for result in measured} == {(SUITE, APP), (SUITE, KIOSK)}
    assert all(m.SQNR.key in result.measurements and not result.errors for result in measured)


def test_no_gate_caught_the_planted_commit(runs: list[RunRecord]) -> None:
    for run in runs[position(PLANTED) :]:
        judged = [j.verdict for result in run.results if result.qconfig == APP for j in result.judgements.values()]
        assert judged
        assert set(judged) == {Verdict.PASS}


def test_the_page_has_what_its_records_say(runs: list[RunRecord]) -> None:
    (told,) = re.findall(r"<!-- demonstration: begin -->\n(.*?)<!-- demonstration: end -->", PAGE, flags=re.DOTALL)
    assert text_of(runs).strip() in told
    assert re.search(r"torch \d+\.\d+\.\d+, `python -m benchmarks demonstration`\.", told)


def changes(report: Element, key: str) -> Iterator[tuple[str, str, str, bool]]:
    """Qconfig, commit, subject, and whether it is for the worse: of each change point of a metric in the data."""
    data: Any = data_of(report)
    title, names = m.METRICS[key].title, data["runs"]
    for chart in data["charts"].values():
        if chart["kind"] == "history" and chart["title"] == title:
            for series in chart["series"]:
                for index, *_, worse in series["changes"]:
                    run = data["shared"][series["runs"]][index]
                    yield series["qconfig"], names["commit"][run], names["subject"][run], worse


@pytest.mark.parametrize("key", [m.ACCURACY_DROP.key, m.SQNR.key, m.FLIPS.key, m.TOP1_INT8.key])
def test_the_report_tells_the_planted_commit(report: Element, planted: RunRecord, key: str) -> None:
    assert (APP, str(planted.commit)[:10], PLANTED, True) in changes(report, key)
    assert str(planted.commit)[:12] in PAGE


def test_the_report_names_the_planted_commit_first(report: Element, planted: RunRecord) -> None:
    first = report.all("article", class_="finding")[0]
    assert first.attributes["data-qconfig"] == APP
    assert first.all("dd")[0].words.startswith(f"{str(planted.commit)[:10]} {PLANTED}, ")
    assert "logit SQNR worse" in first.all("dd")[0].words
    assert report.one("h1").words.endswith("Every gate passes")


def test_the_report_draws_all_that_it_can(report: Element, runs: list[RunRecord]) -> None:
    data: Any = data_of(report)
    assert {chart["kind"] for chart in data["charts"].values()} == {"history", "scatter", "ratios"}
    assert data["runs"]["subject"] == [run.commit_subject for run in runs]
    assert (FOLDER / "report.html").stat().st_size < 1_500_000
    assert (FOLDER / PACKED).stat().st_size < 500_000


def test_the_large_file_was_caught_by_its_limit(runs: list[RunRecord]) -> None:
    at = position(TOO_LARGE)
    verdicts = [
        result.judgements[m.SIZE_REDUCTION.key].verdict
        for run in runs
        for result in run.results
        if result.qconfig == KIOSK
    ]
    assert [i for i, verdict in enumerate(verdicts) if verdict is Verdict.FAIL] == [at, at + 1, at + 2]


@pytest.mark.parametrize("name", ["report.md", "planted.md"])
def test_markdown_is_short_and_on_the_page(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    for block in blocks("demonstration.md"):
        if block.title == name:
            assert block.text.strip() in text
            return
    pytest.fail(f"{name} is not on the page")


def test_the_commands_print_what_the_page_says(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(unpacked)
    monkeypatch.setenv("COLUMNS", "200")
    given = 0
    for block in blocks("demonstration.md"):
        if block.language != "console":
            continue
        for command, said in block.commands():
            program, *arguments = shlex.split(command)
            assert program == "pytest-ptq"
            printed = CliRunner().invoke(app, arguments).output.rstrip().splitlines()
            assert [line.rstrip() for line in said if line.strip()] == [x.rstrip() for x in printed if x.strip()]
            given += 1
    assert given == 3


def test_the_picture_is_one() -> None:
    content = (DOCS / "images" / "report.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(b"\x89PNG")
    assert width >= 1280
    assert height >= 700
    assert "images/report.png" in PAGE
    assert "docs/images/report.png" in (DOCS.parent / "README.md").read_text(encoding="utf-8")
