"""Other engines run in processes of their own: what they answer is compared, and how they fail becomes a row."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path

import fake_rivals
import numpy as np
import pytest

from benchmarks.accuracy import Measuring
from benchmarks.accuracy_cases import Case
from benchmarks.accuracy_rows import Row
from benchmarks.rivals import RIVALS, process
from pytest_ptq.errors import MeasurementError, UsageError

KEYS = [rival.key for rival in fake_rivals.RIVALS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def measuring(patched: pytest.MonkeyPatch, case: Case, folder: Path) -> Measuring:
    return Measuring(case, process.versions(fake_rivals.RIVALS), threads=1, folder=folder)


@pytest.fixture(scope="module")
def rows(measuring: Measuring) -> Mapping[str, Row]:
    return {row.engine: row for row in measuring.rows(["x86", *KEYS])}


def test_logits_of_another_process_are_compared_with_the_same_weights(rows: Mapping[str, Row]) -> None:
    found = rows["coarse"]
    assert not found.error
    assert found.images == 20
    # 50 steps of the largest logit: uniform noise of a step's twelfth, and no other model's logits.
    assert 25 < found.values["sqnr_db"] < 50
    assert found.values["top1_fp32_percent"] == rows["x86"].values["top1_fp32_percent"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("crashing", "Crash: crashed (SIGSEGV)"),
        ("raising", "Exception: ValueError: no kernel for this layer"),
        ("leaving", "Silence: wrote no logits that can be read"),
        ("cutting", "shapes (20, 4), (20, 3), (20,)"),
        ("nan", "not finite"),
        ("missing", "pip install ptq-no-such-package"),
    ],
)
def test_an_engine_that_fails_has_a_row_that_says_why(rows: Mapping[str, Row], key: str, said: str) -> None:
    assert said in rows[key].error
    assert "And more of it" not in rows[key].error
    assert not rows[key].values


def test_what_was_measured_is_not_measured_again_and_what_failed_is(
    rows: Mapping[str, Row], measuring: Measuring, case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def instead(rival: process.Rival, *_: object) -> None:
        asked.append(rival.key)
        raise MeasurementError("asked")

    monkeypatch.setattr("benchmarks.accuracy.run", instead)
    monkeypatch.setattr(type(measuring.loaded.run), "quantized", lambda *_: pytest.fail("quantized again"))
    again = measuring.rows(["x86", *KEYS])
    assert asked == [key for key in KEYS if key != "coarse"]
    assert [row for row in again if row.values] == [rows["x86"], rows["coarse"]]


def test_a_row_of_another_version_is_measured_again_unless_it_is_to_be_kept(
    rows: Mapping[str, Row], measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "found", {**measuring.found, "torch": "1.0"})
    monkeypatch.setattr(measuring, "keep", True)
    (kept,) = measuring.rows(["coarse"])
    assert kept.stale
    assert kept.values == rows["coarse"].values
    monkeypatch.setattr(measuring, "keep", False)
    monkeypatch.setattr("benchmarks.accuracy.run", lambda *_: measuring.loaded.logits[0])
    monkeypatch.setattr("benchmarks.accuracy.store", lambda *_: None)
    (new,) = measuring.rows(["coarse"])
    assert not new.stale
    assert new.values["sqnr_db"] == 200


def test_without_measuring_nothing_is_loaded_and_a_row_that_was_not_kept_says_so(
    rows: Mapping[str, Row], measuring: Measuring, case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.accuracy.run", lambda *_: pytest.fail("run"))
    monkeypatch.setattr("benchmarks.accuracy.Loaded", lambda *_: pytest.fail("loaded"))
    looking = Measuring(case, measuring.found, keep=True, measure=False, folder=folder)
    assert looking.rows(["x86", "coarse"]) == [rows["x86"], rows["coarse"]]
    assert looking.rows(["crashing"])[0].error == "not measured"
    other = Measuring(case, {**measuring.found, "torch": "1.0"}, keep=True, measure=False, folder=folder)
    assert [row.stale for row in other.rows(["x86", "coarse"])] == [False, True]


def test_other_weights_are_another_model(case: Case, measuring: Measuring) -> None:
    # The suite's weights are random: loaded twice, they differ, and so does what rows are kept under.
    assert Measuring(case, {}).loaded.digest != measuring.loaded.digest


@pytest.mark.parametrize("name", ["calibration", "images", "batches"])
def test_other_images_or_labels_are_other_data(measuring: Measuring, name: str) -> None:
    loaded = copy.copy(measuring.loaded)
    for kept in ("digest", "logits"):
        vars(loaded).pop(kept, None)
    assert loaded.digest == measuring.loaded.digest
    del loaded.digest
    changed = {"calibration": lambda: loaded.calibration + 1, "images": lambda: loaded.images + 1,
               "batches": lambda: [(images, labels + 1) for images, labels in loaded.batches]}  # fmt: skip
    setattr(loaded, name, changed[name]())
    assert loaded.digest != measuring.loaded.digest


def test_a_file_that_would_run_code_is_no_logits(tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with pytest.raises(MeasurementError, match="wrote no logits that can be read"):
        process._read(tmp_path / "logits.npy", "Coarse steps")


def test_one_that_takes_too_long_is_stopped(measuring: Measuring, tmp_path: Path) -> None:
    measuring.loaded.write(tmp_path, threads=1)
    with pytest.raises(MeasurementError, match=r"stopped after 0\.01 s"):
        process.run(fake_rivals.RIVALS[0], tmp_path, measuring.found, limit_s=0.01)


def test_the_interpreter_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(process.VARIABLE, sys.executable)
    assert "torch" in process.versions([])
    assert "ptq-no-such-package" not in process.versions(fake_rivals.RIVALS)
    monkeypatch.setenv(process.VARIABLE, str(tmp_path / "python"))
    with pytest.raises(UsageError, match="Let PTQ_RIVALS_PYTHON name"):
        process.versions([])


def test_every_rival_can_be_found_by_its_process() -> None:
    assert len({rival.key for rival in RIVALS}) == len(RIVALS) == 9
    for rival in RIVALS:
        assert rival in sys.modules[rival.module].RIVALS
