"""int8 models that somebody else made, beside a tiny suite's own: measured like them, and refused in one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from plugin.tiny_suite import Noise, Tiny
from torch import nn

from pytest_ptq.engine import export_onnx, quantize
from pytest_ptq.errors import InferenceError, MeasurementError, PTQError, SuiteError
from pytest_ptq.own_int8 import OwnInt8
from pytest_ptq.runner import SuiteRun
from pytest_ptq.sources import ExportedProgram, OnnxFile, OpenVINOFile, TorchScriptFile
from pytest_ptq.suite import Suite, Variant


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 ONNX model of the tiny suite, as another tool might have made it."""
    data = Noise().load()
    path = tmp_path_factory.mktemp("vendor") / "vendor.onnx"
    return export_onnx(quantize(Tiny().build(), data.calibration()), path, data.images[:1])


def run_with(**int8: Any) -> tuple[SuiteRun, dict[str, OwnInt8]]:
    variants = {"embedded": Variant(model=Tiny(), data=Noise())}
    suite = Suite(name="tiny", variants=variants, latency_shape=(1, 3, 8, 8), qconfigs=(), int8=int8)
    return SuiteRun(suite, threads=1), {name: OwnInt8.of(name, source) for name, source in int8.items()}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_file_of_a_runtime(vendor: Path, runtime: str) -> None:
    run, own = run_with(vendor=OnnxFile(vendor, runtime=runtime))
    accuracy = run.measure("accuracy", own["vendor"])
    assert accuracy["sqnr_db"].value > 25
    assert "in int8" in str(accuracy["sqnr_db"].details["kernels"])
    assert run.measure("size", own["vendor"])["size_int8_bytes"].value == vendor.stat().st_size
    coverage = run.measure("coverage", own["vendor"])
    assert coverage["int8_kernels_percent"].value == 100.0
    assert coverage["int8_kernels_count"].value == 3
    assert run.fp32_layers(own["vendor"]) == run.layers(own["vendor"]) == ()
    assert run.reduce_range(own["vendor"]) is None
    assert run.unknown("coverage", own["vendor"]) is None


def test_a_model_that_stayed_float_is_not_int8(tmp_path: Path) -> None:
    from pytest_ptq.engine import fuse

    path = export_onnx(fuse(Tiny().build()), tmp_path / "float.onnx", torch.rand(1, 3, 8, 8))
    run, own = run_with(vendor=OnnxFile(path))
    assert run.measure("coverage", own["vendor"])["int8_kernels_percent"].value == 0.0


def test_openvino_s_own_form_with_its_weights(vendor: Path, tmp_path: Path) -> None:
    import openvino

    openvino.save_model(openvino.Core().read_model(vendor), tmp_path / "m.xml", compress_to_fp16=False)
    run, own = run_with(vendor=OpenVINOFile(tmp_path / "m.xml"))
    assert run.measure("accuracy", own["vendor"])["sqnr_db"].value > 25
    size = run.measure("size", own["vendor"])["size_int8_bytes"].value
    assert size == sum((tmp_path / name).stat().st_size for name in ("m.xml", "m.bin"))
    assert {p.name for p in (run.save(own["vendor"], tmp_path / "out").parent).iterdir()} == {"m.xml", "m.bin"}


def test_a_batch_of_one_is_given_image_by_image(vendor: Path, tmp_path: Path) -> None:
    model = onnx.load(str(vendor))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(tmp_path / "one.onnx"))
    run, own = run_with(free=OnnxFile(vendor), one=OnnxFile(tmp_path / "one.onnx"))
    assert run.measure("accuracy", own["one"])["sqnr_db"].value == run.measure("accuracy", own["free"])["sqnr_db"].value


def test_programs_of_torch(tmp_path: Path) -> None:
    model, x = Tiny().build(), torch.rand(2, 3, 8, 8)
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: batch},)), tmp_path / "m.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.trace(model, (x,)), str(tmp_path / "m.pt"))  # type: ignore[no-untyped-call]
    run, own = run_with(exported=ExportedProgram(tmp_path / "m.pt2"), script=TorchScriptFile(tmp_path / "m.pt"))
    for name in own:
        assert run.measure("accuracy", own[name])["flips_percent"].value == 0.0
        assert run.measure("size", own[name])["size_int8_bytes"].value > 1000
    assert "does not tell its kernels" in str(run.unknown("coverage", own["exported"]))
    assert run.unknown("coverage", own["script"]) is None
    assert run.measure("coverage", own["script"])["int8_kernels_percent"].value == 0.0


def test_processes_that_time_read_programs_of_torch(tmp_path: Path) -> None:
    from pytest_ptq import engine
    from pytest_ptq.measure.processes import REFERENCE
    from pytest_ptq.worker import load_models

    model, x = Tiny().build(), torch.rand(1, 3, 8, 8)
    reference = tmp_path / "fp32.safetensors"
    engine.save(engine.fuse(model), reference)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.trace(model, (x,)), str(tmp_path / "m.pt"))  # type: ignore[no-untyped-call]
    files = {REFERENCE: reference, "exported": tmp_path / "m.pt2", "script": tmp_path / "m.pt"}
    found = load_models({name: str(path) for name, path in files.items()})
    with torch.inference_mode():
        for name in ("exported", "script"):
            assert torch.allclose(found[name](x), model(x), atol=1e-5)


def test_a_module_is_weighed_by_its_state_and_a_function_is_not() -> None:
    run, own = run_with(module=lambda: Tiny().build(), function=lambda: lambda x: Tiny().build()(x))
    assert run.measure("accuracy", own["function"])["flips_percent"].value == 0.0
    assert run.measure("size", own["module"])["size_reduction_x"].value == pytest.approx(1.0, abs=0.02)
    assert run.unknown("size", own["module"]) is None
    why = "the size of function is not known: its state holds 0 numbers and that of fp32 "
    assert why in str(run.unknown("size", own["function"]))
    for gate in ("size", "coverage"):
        with pytest.raises(MeasurementError, match=r"suite tiny, int8 function: .* is not known"):
            run.measure(gate, own["function"])


def test_a_module_is_timed_here_and_nothing_is_judged_by_it() -> None:
    from pytest_ptq.measure.pairs import Pace

    run, own = run_with(module=lambda: Tiny().build())
    timing = run.place(own["module"]).timing
    timing._pace = Pace(seconds=0.05) if "seconds" in Pace.__dataclass_fields__ else timing._pace  # type: ignore[attr-defined]
    samples = run.latency_samples(own["module"])
    assert len(samples.processes) == 1
    assert "a function made it in this process" in samples.unfit
    assert not run.extend_latency(own["module"])


def wrong_shape() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7)).eval()


def not_finite() -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: torch.full((len(x), 10), float("nan"))


def raising() -> nn.Module:
    raise KeyError("weights")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (wrong_shape, r"it answers in the shape \(16, 7\) where fp32 answers in \(16, 10\)"),
        (not_finite, "the output is not finite"),
        (raising, "the function that makes it raises KeyError: 'weights'"),
        (lambda: 3, "the function returns a int"),
        (lambda: Tiny, "the function returns a type"),
        (lambda: Tiny().build().train(), "the module is in training mode"),
        (lambda: nn.Linear(5, 10).eval(), r"it refuses an input of shape \(16, 3, 8, 8\)"),
        (lambda: lambda x: (x, x), "it returns 2 tensors where fp32 returns one"),
        (lambda: lambda x: torch.zeros(len(x), 10, dtype=torch.uint8), "it answers in uint8, not in floats"),
    ],
)
def test_what_cannot_be_judged_is_one_sentence(make: Callable[[], Any], sentence: str) -> None:
    run, own = run_with(vendor=make)
    with pytest.raises(PTQError, match=f"suite tiny, int8 vendor.*: {sentence}") as raised:
        run.measure("accuracy", own["vendor"])
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_run_are_one_sentence(vendor: Path, tmp_path: Path) -> None:
    run, own = run_with(vendor=OnnxFile(tmp_path / "none.onnx"))
    with pytest.raises(SuiteError, match=r"suite tiny, int8 vendor: .*none\.onnx: there is no such file"):
        run.measure("accuracy", own["vendor"])
    model = onnx.load(str(vendor))
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim[1:], (3, 32, 32), strict=True):
        dim.dim_value = size
    onnx.save(model, str(tmp_path / "large.onnx"))
    run, own = run_with(vendor=OnnxFile(tmp_path / "large.onnx"))
    with pytest.raises(InferenceError, match=r"int8 vendor, input of shape \(16, 3, 8, 8\): ONNX Runtime cannot run"):
        run.measure("accuracy", own["vendor"])


def test_names_and_kinds_that_cannot_be() -> None:
    variants = {"embedded": Variant(model=Tiny(), data=Noise())}
    for int8, sentence in (
        (["m.onnx"], "int8 is a list"),
        ({"vendor": "m.onnx"}, "int8 'vendor' is a str, not an int8 model"),
        ({"vendor": nn.Linear}, "int8 'vendor' is a type, not an int8 model"),
        ({"a b": OnnxFile("m.onnx")}, "'a b' cannot name a qconfig"),
    ):
        with pytest.raises(SuiteError, match=sentence):
            Suite(name="tiny", variants=variants, int8=int8)  # type: ignore[arg-type]
