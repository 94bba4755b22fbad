"""The tables of calibration, overhead and scaling, from figures that were made up; and what they are measured with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import calibration, limit, main_job, overhead, scaling, stream
from benchmarks.calibration import CONVERT, FP32, FROZEN, FX, MINMAX, OBSERVERS, ONE, PRESET, X86, Times
from benchmarks.main_job import Usage
from benchmarks.overhead import Found
from benchmarks.turns import Turns
from pytest_ptq.errors import MeasurementError


def reached(text: str) -> dict[str, tuple[str, str]]:
    """(found, reached) by goal."""
    lines = text.partition("### Goals")[2].splitlines()
    cells = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("| ")]
    return {line[0]: (line[2], line[3]) for line in cells[1:]}


def times(name: str = "resnet50", x86: float = 1.1) -> Times:
    passes = {FP32: 1.0, FROZEN: 0.5, MINMAX: 1.0, X86: x86, FX: 3.0}
    sweeps = {ONE: 2.0, OBSERVERS: 2.5, PRESET: 3.0, CONVERT: 0.25}
    return Times(name, 100, {k: (v, 2 * v) for k, v in passes.items()}, {k: (v, v) for k, v in sweeps.items()})


def test_calibration_beside_the_forward_pass() -> None:
    text = calibration.render([times(), times("mobilenet_v2_kit", 1.16)], 1.6)
    assert "| calibrating `x86`, histograms included    | 16.50 [" in text
    assert "| torch FX x86, HistogramObserver           | 45.00 [" in text
    assert text.count("3.00 [3.00, 3.00]") == 4  # torch FX over the forward, and six presets in seconds
    said = reached(text)
    assert said["resnet50: calibrating `x86` over the plain forward"] == ("1.10", "yes")
    assert said["mobilenet_v2_kit: calibrating `x86` over the plain forward"] == ("1.16", "no")
    assert said["resnet50: six qconfigs, one for each observer, over one"] == ("1.25", "yes")
    assert said["resnet50: six presets, with `x86+bias`, over one"] == ("1.50", "no")
    assert said["resnet50: conversion"] == ("0.25 s", "yes")
    assert "mobilenet_v2_kit: conversion" not in said
    assert said["peak memory of `pytest --ptq-suite resnet50`, its largest process"] == ("1.60 GB", "no")
    assert "peak memory" not in calibration.render([times()], None)


def found(added: float, *, torch: bool = False, jobs: tuple[Usage, ...] = ()) -> Found:
    return Found((0.2,) * 6, (0.2 + added,) * 6, (0.5,) * 6, torch, jobs)


def test_overhead_within_pairs() -> None:
    text = overhead.render(found(0.029, jobs=(Usage(91.0, 1.0, 0), Usage(60.0, 1.0, 1))))
    assert "| the difference within pairs                  | 29 [29, 29]" in text
    assert "| 60.0 s, 1.00 GB, failed" in text
    said = reached(text)
    assert said["`pytest --help`: what the plugin adds"] == ("29.0 ms", "yes")
    assert said["collecting a suite: modules of torch imported"] == ("0", "yes")
    assert said["`pytest --ptq-suite resnet50`, empty cache"] == ("91.0 s", "no")
    assert said["`pytest --ptq-suite resnet50`, second run"] == ("60.0 s", "yes")


def test_overhead_that_is_too_much() -> None:
    said = reached(overhead.render(found(0.031, torch=True)))
    assert [yes for _, yes in said.values()] == ["no", "no"]


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(MeasurementError, match="5 samples"):
        overhead.render(Found((0.2,) * 5, (0.2,) * 5, (0.5,) * 6, torch=False))


def test_processes_with_and_without_the_plugin(tmp_path: Path) -> None:
    without, with_plugin = overhead.help_pairs(1, Turns())
    assert len(without) == len(with_plugin) == 1
    assert not overhead.timed(["--version"], tmp_path, tmp_path / "compiled")[1]
    assert list((tmp_path / "compiled").rglob("*.pyc"))
    (tmp_path / "torch.py").write_text("", encoding="utf-8")
    (tmp_path / "conftest.py").write_text("import torch\n", encoding="utf-8")
    (tmp_path / "test_one.py").write_text("def test(): pass\n", encoding="utf-8")
    assert overhead.timed(["-p", "no:ptq"], tmp_path, tmp_path / "compiled")[1]
    with pytest.raises(MeasurementError, match="ended with 4"):
        overhead.timed(["--no-such-option"], tmp_path, tmp_path / "compiled")


def test_scaling_shows_lines_and_memory() -> None:
    linear = {100: [1.1, 1.1], 200: [2.1, 2.1], 400: [4.1, 4.1]}
    square = {1: [1.0, 1.0], 2: [4.0, 4.0], 4: [16.0, 16.0]}
    text = scaling.render({"images done": linear, scaling.SWEEPING: square}, {1000: 700.0, 50_000: 711.0})
    assert "| 200      | 2.10 [2.10, 2.10] |" in text
    assert "10.00 ms for each one more and 0.10 s, 0.0 % off at most." in text
    said = reached(text)
    assert said["images done: off a line"] == ("0.0 %", "yes")
    assert said[f"{scaling.SWEEPING}: off a line"][1] == "no"
    assert said["memory added from 1,000 to 50,000 images"] == ("11.0 MiB", "no")


def test_a_stream_repeats_itself_and_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (list(stream.images(3 * stream.BATCH, 2)) for _ in range(2))
    assert len(one) == 3
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(one, other, strict=True))
    stream.main(2 * stream.BATCH)
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 2 * stream.BATCH
    assert 0 < said["before_mb"] <= said["peak_mb"]


def test_a_main_job_that_does_not_run_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(main_job, "used", lambda command: Usage(1.0, 1.0, 4))
    with pytest.raises(MeasurementError, match="ended with status 4"):
        main_job.run(tmp_path)


def test_models_beside_registers() -> None:
    fast, slow = (
        limit.Times(name, threads, 4 * 10**9, (0.02, 0.04), (0.016, 0.032))
        for name, threads in (("resnet50", 1), ("resnet50", 2))
    )
    text = limit.render([fast, slow])
    assert "| resnet50 | 1         | 4.00   | 30.00 [" in text
    assert "1.25 [1.25, 1.25]" in text
    assert reached(text) == {"int8 / arithmetic limit of VNNI in the same rounds, resnet50, 1 thread": ("1.25", "yes")}


def test_a_model_is_timed_beside_what_it_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "TURN_S", 1e-6)
    found = limit.measure("mobilenet_v2", 1, 2, Turns())
    assert found.macs == pytest.approx(300.8e6, rel=0.01)
    assert len(found.model_s) == len(found.registers_s) == 2
    assert min(*found.model_s, *found.registers_s) > 0
