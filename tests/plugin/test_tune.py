"""`--ptq-tune` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from plugin.project import Project, output
from pytest_ptq import ImageFolder, fp32_results
from pytest_ptq.metrics import METRICS, SQNR, Limit, Measurement
from pytest_ptq.plugin.tune import FileMemory, keeps
from pytest_ptq.plugin.tune_key import _data


def test_a_qconfig_that_keeps_its_limits_is_left_as_it_is(project: Project) -> None:
    result = project.run("--ptq-tune", "--ptq-qconfig", "x86")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["--ptq-tune, tiny?x86?: keeps its limits as it is: accuracy drop*; 1 full evaluation (*"]
    )
    assert project.records() == [], "nothing was judged"


def test_the_fallback_is_printed_for_the_suite(project: Project) -> None:
    project.limits(sqnr_db=53.0)
    result = project.run("--ptq-tune", "--ptq-qconfig", "minmax")
    assert result.ret == 0, output(result)
    result.stdout.fnmatch_lines(
        [
            "--ptq-tune, tiny?minmax?: * of 3 layers in fp32 keep the limits: *",
            "  QConfig('minmax-tuned', *fp32_layers=(*",
        ]
    )
    (path,) = (project.path / ".ptq" / "tune").iterdir()
    tree = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(tree["noise_db"]) == ["0", "3", "8"]
    before = path.stat().st_mtime_ns
    again = project.run("--ptq-tune", "--ptq-qconfig", "minmax")
    assert path.stat().st_mtime_ns == before, "all of it was known"
    assert [line for line in again.outlines if "QConfig(" in line] == [
        line for line in result.outlines if "QConfig(" in line
    ]


def test_limits_that_nothing_keeps_fail(project: Project) -> None:
    project.limits(sqnr_db=199.0)
    result = project.run("--ptq-tune", "--ptq-qconfig", "x86")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*no fallback keeps the limits: *"])


def test_a_missing_limit_is_one_sentence(project: Project) -> None:
    project.baseline.unlink()
    result = project.run("--ptq-tune", "--ptq-qconfig", "x86")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in output(result)
    result.stdout.fnmatch_lines(["ERROR: *"])


def test_without_a_suite_there_is_nothing_to_tune(project: Project) -> None:
    result = project.tests("def test_nothing(): pass", "--ptq-tune")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--ptq-tune tunes the suites of --ptq-suite, and none is named"])


def findings(project: Project) -> set[str]:
    result = project.run("--ptq-tune", "--ptq-qconfig", "x86")
    assert result.ret == 0, output(result)
    return {path.name for path in (project.path / ".ptq" / "tune").iterdir()}


EDITS = {
    "scale of the pixels that calibrate": ("list(self.images[:CAL", "list((self.images / 2)[:CAL"),
    "scale of the pixels that are judged": ("zip(self.images[CAL", "zip((self.images / 2)[CAL"),
    "last label": (
        "        return self\n",
        "        self.labels[-1] = (self.labels[-1] + 1) % 10\n        return self\n",
    ),
    "activation": ("nn.BatchNorm2d(32), nn.ReLU(),", "nn.BatchNorm2d(32), nn.ReLU6(),"),
    "stride": ("nn.Conv2d(16, 32, 3, stride=2, padding=1)", "nn.Conv2d(16, 32, 3, padding=1)"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_found_on_other_data_or_another_model_is_searched_anew(project: Project, edit: str) -> None:
    """Pixels are scaled behind the fingerprints, as a file's are by resize, crop and mean."""
    first = findings(project)
    assert findings(project) == first
    project.edit_suite(*EDITS[edit])
    second = findings(project)
    assert len(second - first) == 1, "nothing was believed"
    assert findings(project) == second


def test_what_another_engine_found_is_searched_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first = findings(project)
    (project.path / "engine").mkdir()
    (project.path / "engine" / "convert.py").write_text("better = True\n", encoding="utf-8")
    with monkeypatch.context() as changed:
        changed.setattr(fp32_results, "ENGINE", project.path / "engine")
        assert len(findings(project) - first) == 1
    with monkeypatch.context() as changed:
        changed.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
        assert len(findings(project) - first) == 2


FILES: dict[str, dict[str, Any]] = {
    "resize": {"resize": 12}, "crop": {"crop": 7}, "mean": {"mean": (0.5, 0.5, 0.5)}, "std": {"std": (0.5, 0.5, 0.5)},
    "interpolation": {"interpolation": "nearest"}, "turned": {"rotate180": True}, "classes": {"classes": ("b", "a")},
}  # fmt: skip


@pytest.mark.parametrize("change", FILES)
def test_files_that_are_prepared_in_another_way_are_other_data(tmp_path: Path, change: str) -> None:
    generator = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)

    def content(**fields: Any) -> list[bytes]:
        folder = ImageFolder(**{"resize": 9, "crop": 8, "calibration": 4, "batch_size": 4, **fields})
        return list(_data(folder.load(str(tmp_path))))

    assert content() == content()
    assert content(**FILES[change]) != content()


def test_of_files_no_more_than_the_first_batches_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(path)
    decoded = []
    real = ImageFolder.prepare
    monkeypatch.setattr(ImageFolder, "prepare", lambda self, path: (decoded.append(path), real(self, path))[1])
    list(_data(ImageFolder(resize=8, crop=8, calibration=6, batch_size=2).load(str(tmp_path))))
    assert len(decoded) == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"noise_db": {"a": "x"}, "evaluations": {}}', '{"noise_db": {}}'])
def test_a_damaged_memory_is_begun_anew(project: Project, text: str) -> None:
    path = project.path / "memory.json"
    path.write_text(text, encoding="utf-8")
    memory = FileMemory(path, METRICS)
    assert memory.noise("a") is None
    measured = {SQNR.key: Measurement(SQNR, 31.5, 30.0, 32.0, 64)}
    memory.remember_evaluation(("b", "a"), measured)
    memory.remember_noise("a", -12.25)
    again = FileMemory(path, METRICS)
    assert again.evaluation(("a", "b")) == measured
    assert again.noise("a") == -12.25


def test_a_limit_on_what_was_not_measured_is_not_kept() -> None:
    limits = {SQNR.key: Limit(SQNR, 30.0, "here")}
    assert keeps(limits, {SQNR.key: Measurement(SQNR, 31.0)})
    assert not keeps(limits, {SQNR.key: Measurement(SQNR, 29.0)})
    assert not keeps(limits, {})
