"""SuiteRun where the int8 model runs elsewhere: one quantization, one fp32, and what each runtime makes of its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from in_runtimes import BOTH, OTHERS, counted_calls, in_each
from small_run import Noise, build, suite
from torch import nn

from pytest_ptq import engine
from pytest_ptq.engine.export import export_onnx
from pytest_ptq.measure.custom import MetricSource
from pytest_ptq.metrics import (
    ACCURACY_DROP,
    FLIPS,
    KERNELS,
    SIZE_FP32,
    SIZE_INT8,
    SIZE_REDUCTION,
    SQNR,
    TOP1_FP32,
    Direction,
    Metric,
)
from pytest_ptq.qconfig import MINMAX, X86, in_runtime
from pytest_ptq.runner import SuiteRun
from pytest_ptq.runtimes import RUNTIMES


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    return counted_calls(monkeypatch)


def test_nothing_is_quantized_calibrated_exported_or_evaluated_twice(calls: dict[str, list[Any]]) -> None:
    data = Noise()
    run = SuiteRun(suite(data))
    qconfigs = in_each(X86, MINMAX)
    for _ in range(2):
        for qconfig in qconfigs:
            for gate in ("accuracy", "size", "coverage"):
                assert run.measure(gate, qconfig) is run.measure(gate, qconfig)
    assert len(calls["calibrate"]) == 1
    assert calls["convert"] == ["x86", "minmax"]
    assert sorted(calls["export"]) == sorted(("converted", r) for r in OTHERS for _ in range(2))
    assert data.reads["evaluation"] == 1 + len(qconfigs), "fp32 once, and each model where it runs"
    assert run.quantized(qconfigs[0]) is run.quantized(qconfigs[1]) is run.quantized(qconfigs[2])


def test_a_runtime_that_was_chosen_shares_the_file(calls: dict[str, list[Any]]) -> None:
    """`fastest` is judged under its own name."""
    run = SuiteRun(suite(Noise()))
    chosen = replace(X86, name="x86-fastest", runtime="openvino")
    for qconfig in (chosen, in_runtime(X86, "openvino")):
        run.measure("size", qconfig)
    assert calls["convert"] == ["x86"]
    assert calls["export"] == [("converted", "openvino")]


@BOTH
def test_what_the_runtime_answers_is_judged(runtime: str) -> None:
    run = SuiteRun(suite(Noise()))
    here, there = run.measure("accuracy", X86), run.measure("accuracy", in_runtime(X86, runtime))
    assert here.keys() == there.keys()
    assert there[TOP1_FP32.key] == here[TOP1_FP32.key], "one fp32 for all runtimes"
    assert there[ACCURACY_DROP.key].samples == 64
    assert there[SQNR.key].value == pytest.approx(here[SQNR.key].value, abs=0.5)
    assert there[SQNR.key].details[KERNELS] == "3 of 3 convolutions and products in int8, 1 other int8 kernel"


@BOTH
def test_the_files_answers_are_what_is_compared(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model in the file is another accuracy: no figure of torch's stands in for it."""
    torch.manual_seed(1)
    other = nn.Sequential(*(type(layer)(*_arguments(layer)) for layer in build())).eval()
    int8 = engine.quantize(other, Noise().calibration())
    monkeypatch.setattr(
        "pytest_ptq.engine.export.export_onnx", lambda _, path, example, **options: export_onnx(int8, path, example)
    )
    run = SuiteRun(suite(Noise()))
    assert run.measure("accuracy", in_runtime(X86, runtime))[FLIPS.key].value > 20
    assert run.measure("accuracy", X86)[FLIPS.key].value < 10


def _arguments(layer: nn.Module) -> tuple[Any, ...]:
    names = {
        nn.Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
        nn.BatchNorm2d: ("num_features",),
        nn.AdaptiveAvgPool2d: ("output_size",),
        nn.Linear: ("in_features", "out_features"),
    }
    return tuple(getattr(layer, name) for name in names.get(type(layer), ()))


@BOTH
def test_size_is_that_of_the_file_that_is_saved(runtime: str, tmp_path: Path) -> None:
    run, qconfig = SuiteRun(suite(Noise())), in_runtime(X86, runtime)
    size = run.measure("size", qconfig)
    path = run.save(qconfig, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / f"tiny_x86-{runtime}.onnx"
    assert size[SIZE_INT8.key].value == path.stat().st_size
    assert size[SIZE_FP32.key] == run.measure("size", X86)[SIZE_FP32.key]
    assert size[SIZE_REDUCTION.key].value == size[SIZE_FP32.key].value / path.stat().st_size
    x = torch.rand(3, 3, 8, 8)
    saved = torch.from_numpy(RUNTIMES[runtime].load(path, 1).run(x.numpy()))
    assert torch.equal(saved, run.in_runtime(runtime).called(qconfig)(x))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


class Norm:
    """Mean square of the first output."""

    def update(self, outputs: dict[str, torch.Tensor], targets: Any) -> None:
        self.total = getattr(self, "total", 0.0) + float(outputs["out"].square().sum())

    def compute(self) -> float:
        return self.total


NORM = {"norm": MetricSource(Metric("norm", "norm", "", Direction.HIGHER_IS_BETTER), Norm)}


class Segments(nn.Module):
    """Two outputs by name, in no order of the alphabet."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.out, self.aux = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.body(x)
        return {"out": self.out(y), "aux": self.aux(y)}


@BOTH
def test_outputs_get_their_form_again(runtime: str) -> None:
    described = replace(suite(Noise(), model=lambda: Segments().eval()), top1=False, metrics=("norm",))
    run, qconfig = SuiteRun(described, metrics=NORM), in_runtime(X86, runtime)
    x = torch.rand(5, 3, 8, 8)
    found = run.in_runtime(runtime).called(qconfig)(x)
    assert {name: tuple(part.shape) for name, part in found.items()} == {"out": (5, 4, 8, 8), "aux": (5, 2, 8, 8)}
    assert run.measure("accuracy", qconfig)[SQNR.key].value == pytest.approx(
        run.measure("accuracy", X86)[SQNR.key].value, abs=0.5
    )


def test_the_folder_of_exported_files_goes_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = SuiteRun(suite(Noise()))
    run.measure("size", in_runtime(X86, "openvino"))
    assert len(list(tmp_path.rglob("*.onnx"))) == 1
    run.in_runtime("openvino").files._folder_goes()
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_for_every_runtime() -> None:
    seen: list[str] = []

    def progress(items: Iterable[Any], title: str, total: int | None) -> Iterator[Any]:
        seen.append(title)
        yield from items

    run = SuiteRun(suite(Noise()), progress=progress)
    for qconfig in in_each(X86):
        run.measure("accuracy", qconfig)
    assert [title for title in seen if title.startswith("evaluating")] == [
        "evaluating x86", "evaluating fp32", "evaluating x86-onnxruntime", "evaluating x86-openvino",
    ]  # fmt: skip


@BOTH
def test_images_of_many_sizes_are_answered_too(runtime: str) -> None:
    run, qconfig = SuiteRun(suite(Noise()), threads=1), in_runtime(X86, runtime)
    called, quantized = run.in_runtime(runtime).called(qconfig), run.quantized(qconfig)
    for size in (8, 9, 12, 8, 17, 20, 9):
        x = torch.rand(2, 3, size, size)
        assert (called(x) - quantized(x)).abs().max() < 0.05


class Residual(nn.Module):
    """A sum that is small beside what its summands could add up to."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        return self.head(torch.relu(self.second(y) + 8 * y).mean((2, 3)))


def test_what_a_runtime_rounds_besides_has_the_range_that_it_has_on_images(tmp_path: Path) -> None:
    run = SuiteRun(suite(Noise(), model=lambda: Residual().eval()), threads=1)
    x = run.dataset.calibration()[1]  # type: ignore[index]
    quantized = run.quantized(X86)
    blind = export_onnx(quantized, tmp_path / "blind.onnx", x[:1], runtime="onnxruntime")
    expected = quantized(x)
    errors = [
        float((torch.from_numpy(RUNTIMES["onnxruntime"].load(path, 1).run(x.numpy())) - expected).square().sum())
        for path in (run.in_runtime("onnxruntime").files.int8(X86, x), blind)
    ]
    assert errors[0] < errors[1] / 4
