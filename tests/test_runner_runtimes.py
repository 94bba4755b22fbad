"""SuiteRun where the int8 model runs elsewhere: one quantization, one fp32, and what each runtime makes of its file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from small_run import Noise, build, suite
from torch import nn

from pytest_ptq import engine
from pytest_ptq.engine.export import export_onnx
from pytest_ptq.engine.export.layers_of_file import weighted_layers
from pytest_ptq.errors import ExportError, InferenceError, InstallationError, MeasurementError
from pytest_ptq.measure.custom import MetricSource
from pytest_ptq.measure.load import Load
from pytest_ptq.measure.pairs import Pairs, ProcessTimes
from pytest_ptq.measure.processes import CONTROL, REFERENCE, Job
from pytest_ptq.measure.turns import time_in_turn
from pytest_ptq.metrics import (
    ACCURACY_DROP,
    FLIPS,
    INT8_KERNELS,
    INT8_MACS,
    KERNELS,
    NOT_INT8,
    QDQ_PAIRS,
    SIZE_FP32,
    SIZE_INT8,
    SIZE_REDUCTION,
    SQNR,
    TOP1_FP32,
    Direction,
    Metric,
)
from pytest_ptq.qconfig import MINMAX, X86, QConfig, in_runtime
from pytest_ptq.runner import SuiteRun
from pytest_ptq.runner.fastest import Fastest
from pytest_ptq.runtimes import RUNTIMES, Kernel, KernelCounts

OTHERS = ("onnxruntime", "openvino")
BOTH = pytest.mark.parametrize("runtime", OTHERS)


def in_each(*qconfigs: QConfig) -> tuple[QConfig, ...]:
    return tuple(in_runtime(qconfig, runtime) for qconfig in qconfigs for runtime in RUNTIMES)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Which models were calibrated, converted and exported."""
    found: dict[str, list[Any]] = {"calibrate": [], "convert": [], "export": []}

    def counted(name: str, real: Callable[..., Any], what: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            found[name].append(what(*args, **options))
            return real(*args, **options)

        return call

    pipeline = engine.pipeline
    monkeypatch.setattr(pipeline, "calibrate", counted("calibrate", pipeline.calibrate, lambda *_: 1))
    monkeypatch.setattr(pipeline, "convert", counted("convert", pipeline.convert, lambda _, __, q, *___: q.name))
    told = counted("export", export_onnx, lambda model, *_, runtime, **__: (model.stage, runtime))
    monkeypatch.setattr("pytest_ptq.engine.export.export_onnx", told)
    return found


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


@BOTH
def test_coverage_counts_the_runtimes_kernels(runtime: str) -> None:
    found = SuiteRun(suite(Noise())).measure("coverage", in_runtime(X86, runtime))
    assert (found[INT8_MACS.key].value, found[INT8_KERNELS.key].value, found[QDQ_PAIRS.key].value) == (100.0, 3.0, 0.0)
    assert NOT_INT8 not in found[INT8_MACS.key].details


FIRST, SECOND, LAST = 64 * 16 * 27, 16 * 32 * 16 * 9, 320
"""Multiply-accumulates of the small model's layers `0`, `3` and `7`."""


@BOTH
def test_a_layer_that_the_runtime_computes_in_float_does_not_count(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same model, but for the pair before its second convolution: the file promises what no kernel keeps."""

    def export_without(model: Any, path: Path, example: Any, **options: Any) -> Path:
        layers = weighted_layers(export_onnx(model, path, example, **options))
        file = onnx.load(str(path))
        (conv,) = [node for node in file.graph.node if layers.get(node.name) == "3"]
        made = {output: node for node in file.graph.node for output in node.output}
        # Reads the float that was rounded, and not what comes back from the integers.
        conv.input[0] = made[made[conv.input[0]].input[0]].input[0]
        onnx.save(file, str(path))
        return path

    monkeypatch.setattr("pytest_ptq.engine.export.export_onnx", export_without)
    run = SuiteRun(suite(Noise()))
    found = run.measure("coverage", in_runtime(X86, runtime))
    details = found[INT8_MACS.key].details
    assert str(details[NOT_INT8]).split(", ")[-1] == "3"
    # A runtime may leave the layer before it in float, too, whose rounding has no int8 reader any more.
    kept = {"3": FIRST + LAST, "0, 3": LAST}[str(details[NOT_INT8])]
    assert found[INT8_MACS.key].value == pytest.approx(100 * kept / (FIRST + SECOND + LAST))
    assert found[INT8_KERNELS.key].value == 3 - len(str(details[NOT_INT8]).split(", "))
    assert run.measure("coverage", X86)[INT8_MACS.key].value == 100.0


def test_layers_that_were_not_quantized_are_not_named_again() -> None:
    kept = replace(in_runtime(X86, "openvino"), fp32_layers=("3",))
    found = SuiteRun(suite(Noise(), (kept,))).measure("coverage", kept)
    assert found[INT8_MACS.key].value == pytest.approx(100 * (FIRST + LAST) / (FIRST + SECOND + LAST))
    assert NOT_INT8 not in found[INT8_MACS.key].details
    assert found[INT8_KERNELS.key].value == 2


def test_many_layers_are_listed_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ptq.runner.in_runtime.NAMED_LAYERS", 1)
    silent = KernelCounts((Kernel("", "Conv", False, True),))
    run = SuiteRun(suite(Noise()))
    monkeypatch.setattr(run.in_runtime("openvino"), "_kernels", lambda qconfig: silent)
    found = run.measure("coverage", in_runtime(X86, "openvino"))
    assert found[INT8_MACS.key].details[NOT_INT8] == "0 and 2 more"
    assert found[INT8_MACS.key].value == 0.0


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


class Stopwatch:
    """Stands in for processes: remembers the jobs, and times each model by its name."""

    def __init__(self, ms: dict[str, float] | None = None, broken: str = "") -> None:
        self.jobs: list[Job] = []
        self.ms, self.broken = ms or {}, broken

    def __call__(self, job: Job, seeds: Sequence[int], **_: Any) -> Iterator[ProcessTimes]:
        self.jobs.append(job)
        if job.runtime == self.broken:
            raise MeasurementError(f"{job.runtime} cannot run the model")
        ms = self.ms.get(job.runtime, 1.0)
        pairs = Pairs((ms, ms), (ms, ms), (True, False))
        names = [CONTROL, *(name for name in job.models if name != REFERENCE)]
        for _ in seeds:
            yield ProcessTimes(dict.fromkeys(names, pairs), Load(0.0, None), 3, 0.0, 80.0)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    watch = Stopwatch()
    monkeypatch.setattr("pytest_ptq.measure.latency.run_processes", watch)
    return watch


def test_a_runtime_is_timed_by_itself_against_its_own_fp32(watch: Stopwatch, calls: dict[str, list[Any]]) -> None:
    run = SuiteRun(suite(Noise()), threads=1)
    run.timed_together = in_each(X86, MINMAX)
    run.latency_samples(X86)
    assert calls["export"] == [], "whoever asks for torch waits for no other runtime"
    for qconfig in run.timed_together:
        run.latency_samples(qconfig)
    assert sorted(job.runtime for job in watch.jobs) == ["onnxruntime", "openvino", "torch"]
    for job in watch.jobs:
        suffix = "" if job.runtime == "torch" else f"-{job.runtime}"
        assert set(job.models) == {REFERENCE, f"int8 x86{suffix}", f"int8 minmax{suffix}"}
        if job.runtime != "torch":
            reference = onnx.load(str(job.models[REFERENCE])).graph
            assert not [node for node in reference.node if node.op_type == "QuantizeLinear"]
            assert {p.key: p.value for p in onnx.load(str(job.models[REFERENCE])).metadata_props}["stage"] == "fused"


def test_a_qconfig_that_a_runtime_refuses_leaves_the_others_alone(
    watch: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(model: Any, path: Path, example: Any, **options: Any) -> Path:
        if model.stage == "converted" and model.qconfig.name == "minmax":
            tried.append(options["runtime"])
            raise ExportError("Odd has no form in ONNX", place="layer 3", remedy="Keep it in fp32 (fp32_layers).")
        return export_onnx(model, path, example, **options)

    monkeypatch.setattr("pytest_ptq.engine.export.export_onnx", refuse)
    run = SuiteRun(suite(Noise()), threads=1)
    run.timed_together = in_each(X86, MINMAX)
    good, bad = in_runtime(X86, "openvino"), in_runtime(MINMAX, "openvino")
    assert run.measure("latency", good)
    for gate in ("accuracy", "size", "coverage", "latency"):
        with pytest.raises(ExportError, match="layer 3: Odd has no form in ONNX"):
            run.measure(gate, bad)
    assert tried == ["openvino"], "it is tried once"
    assert run.measure("latency", MINMAX), "torch goes on"


def test_a_file_that_a_runtime_cannot_load_fails_its_own_gates_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(model: Any, path: Path, example: Any, **options: Any) -> Path:
        export_onnx(model, path, example, **options)
        if options["runtime"] == "onnxruntime":
            file = onnx.load(str(path))
            file.graph.node[-1].op_type = "Frobnicate"
            onnx.save(file, str(path))
        return path

    monkeypatch.setattr("pytest_ptq.engine.export.export_onnx", spoil)
    run = SuiteRun(suite(Noise()))
    with pytest.raises(InferenceError, match=r"ONNX Runtime cannot load the model .it stops at Frobnicate node"):
        run.measure("accuracy", in_runtime(X86, "onnxruntime"))
    assert run.measure("accuracy", in_runtime(X86, "openvino"))
    assert run.measure("accuracy", X86)


def test_a_missing_package_is_one_sentence_and_torch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(package: str) -> str:
        if package == "openvino":
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr("pytest_ptq.runtimes.interface.version", found)
    run = SuiteRun(suite(Noise()))
    with pytest.raises(InstallationError, match=r"Run: pip install 'pytest-ptq\[openvino\]'"):
        run.measure("coverage", in_runtime(X86, "openvino"))
    assert run.measure("coverage", X86)


def fastest(run: SuiteRun, monkeypatch: pytest.MonkeyPatch, watch: Stopwatch) -> Any:
    monkeypatch.setattr(time_in_turn, "__defaults__", (3, watch))
    return run.fastest(replace(X86, name="x86-fastest", runtime="fastest"))


def test_the_fastest_runtime_is_measured_once(monkeypatch: pytest.MonkeyPatch, calls: dict[str, list[Any]]) -> None:
    run, watch = SuiteRun(suite(Noise()), threads=1), Stopwatch({"torch": 3.0, "onnxruntime": 1.0, "openvino": 2.0})
    found = fastest(run, monkeypatch, watch)
    assert (found.runtime, found.failed) == ("onnxruntime", {})
    assert list(found.ms.items()) == [("torch", 3.0), ("onnxruntime", 1.0), ("openvino", 2.0)]
    assert len(watch.jobs) == 9
    assert all(set(job.models) == {REFERENCE} and job.threads == 1 for job in watch.jobs)
    assert run.fastest(in_runtime(X86, "openvino")) is found
    assert run.fastest_ms(X86) == found.ms
    assert (calls["convert"], len(calls["export"])) == (["x86"], 2), "and no fp32 was exported for it"


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"torch": (3.0, 3.1, 3.2), "onnxruntime": (2.0, 2.1, 2.2), "openvino": (1.0, 1.1, 1.2)}, "openvino"),
        ({"torch": (1.02, 1.03, 1.2), "onnxruntime": (1.0, 1.02, 1.3), "openvino": (1.0, 1.01, 1.02)}, "torch"),
        ({"torch": (1.06, 1.07, 1.08), "onnxruntime": (1.01, 1.04, 1.3), "openvino": (1.0, 1.0, 1.02)}, "onnxruntime"),
        # The processes overlap, and the medians are too far apart; those are near, and no processes overlap.
        ({"torch": (1.0, 1.06, 1.2), "onnxruntime": (1.02, 1.03, 1.03), "openvino": (0.99, 1.0, 1.01)}, "openvino"),
    ],
)
def test_of_runtimes_that_cannot_be_told_apart_the_first_is_taken(
    times: dict[str, tuple[float, ...]], chosen: str
) -> None:
    found = Fastest(times, {})
    assert found.runtime == chosen
    assert found.ms == {name: sorted(values)[1] for name, values in times.items()}


def test_a_runtime_that_fails_does_not_win(monkeypatch: pytest.MonkeyPatch) -> None:
    run = SuiteRun(suite(Noise()), threads=1)
    found = fastest(run, monkeypatch, Stopwatch({"onnxruntime": 0.1, "openvino": 0.5}, broken="onnxruntime"))
    assert found.runtime == "openvino"
    assert found.failed == {"onnxruntime": "measure: onnxruntime cannot run the model"}


def test_where_no_runtime_can_the_first_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Iterator[ProcessTimes]:
        raise MeasurementError("the machine is on fire")

    run = SuiteRun(suite(Noise()), threads=1)
    with pytest.raises(MeasurementError, match="on fire"):
        fastest(run, monkeypatch, fail)  # type: ignore[arg-type]


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
def test_images_of_another_size_than_is_timed_have_a_file_of_their_own(
    runtime: str, watch: Stopwatch, calls: dict[str, list[Any]], tmp_path: Path
) -> None:
    qconfig = in_runtime(X86, runtime)
    run = SuiteRun(replace(suite(Noise()), latency_shape=(1, 3, 16, 16)), threads=1)
    same = SuiteRun(suite(Noise()), threads=1)
    for gate in ("accuracy", "size", "coverage"):
        assert run.measure(gate, qconfig) == same.measure(gate, qconfig)
    assert run.measure("latency", qconfig)
    assert len(calls["export"]) == 1 + 3, "int8 for images, and again with fp32 for what is timed"
    (job,) = watch.jobs
    assert job.shape == (1, 3, 16, 16)
    for path in job.models.values():
        (given,) = onnx.load(str(path)).graph.input
        assert [d.dim_value for d in given.type.tensor_type.shape.dim][1:] == [3, 16, 16]
    x = torch.rand(2, 3, 8, 8)
    assert RUNTIMES[runtime].load(run.save(qconfig, tmp_path), 1).run(x.numpy()).shape == (2, 10)


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
