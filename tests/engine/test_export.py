"""Exported files: what stands in them, and what is refused."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pytest_ptq
from engine.exported import RUNTIMES, answers, check, steps_apart
from engine.nets import Net, conv, images, partly_fp32_net, residual_net, run
from pytest_ptq import engine
from pytest_ptq.engine.export import OPSET, quantized_tensors, run_quantized
from pytest_ptq.engine.export.fine import FINE_OPSET
from pytest_ptq.errors import ExportError, InstallationError, StoreError, UnknownNameError
from pytest_ptq.qconfig import QConfig
from pytest_ptq.runtimes import OPENVINO


@pytest.fixture(scope="module")
def quantized() -> Any:
    return engine.quantize(residual_net(), [images()])


def written(model: Any, folder: Path, **options: Any) -> Any:
    return onnx.load(engine.export_onnx(model, folder / "m.onnx", images(1), **options))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_stands_in_a_file(quantized: Any, tmp_path: Path, runtime: str) -> None:
    """int8 weights by channels, int32 biases, uint8 activations, a free batch, and what it is."""
    model = written(quantized, tmp_path, runtime=runtime)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for layer in ("conv1", "conv2", "fc"):
        own = quantized.get_submodule(layer)
        np.testing.assert_array_equal(stored[f"{layer}.weight"], own.weight.numpy())
        np.testing.assert_array_equal(stored[f"{layer}.scales"], own.scales.numpy())
        assert stored[f"{layer}.weight"].dtype == np.int8
        assert stored[f"{layer}.bias"].dtype == np.int32
        expected = own.bias.numpy() / (own.scales.numpy() * own.x.scale)
        np.testing.assert_allclose(stored[f"{layer}.bias"], expected, atol=0.51, rtol=1e-6)
    dimensions = [v.type.tensor_type.shape.dim[0].dim_param for v in (model.graph.input[0], model.graph.output[0])]
    assert dimensions == ["batch", "batch"]
    assert [v.name for v in (*model.graph.input, *model.graph.output)] == ["input", "output"]
    assert {p.key: p.value for p in model.metadata_props} == {
        "runtime": runtime, "opset": str(OPSET), "stage": "converted", "qconfig": "x86",
        "reduce_range": str(quantized.plan.reduce_range).lower(),
    }  # fmt: skip
    assert (model.producer_name, model.producer_version) == ("pytest-ptq", pytest_ptq.__version__)
    named = {node.name: node.op_type for node in model.graph.node}
    assert (named["conv1"], named["conv2"], named["fc"]) == ("Conv", "Conv", "Gemm")


def test_scales_and_zero_points_are_those_of_the_model(quantized: Any, tmp_path: Path) -> None:
    model = written(quantized, tmp_path, runtime="openvino")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    pairs = {
        (float(stored[n.input[1]]), int(stored[n.input[2]])) for n in model.graph.node if n.op_type == "QuantizeLinear"
    }
    assert pairs == {(float(np.float32(q.scale)), q.zero_point) for q in quantized_tensors(quantized).values()}


def test_openvino_adds_a_residual_in_the_convolution(tmp_path: Path) -> None:
    """Also where others read the residual too, whatever its zero point: no kernel of its own for the addition."""

    def compute(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        z = m.c(torch.relu(m.b(y))) + y
        return m.f(torch.relu(m.e(torch.relu(m.d(z))) + z))

    net = Net(compute, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), d=conv(8, 8), e=conv(8, 8), f=conv(8, 4))
    check(net, images(), tmp_path, ["openvino"])
    session = OPENVINO.load(tmp_path / "openvino.onnx", 1)
    session.run(images(1).numpy())  # of a known shape, by which it fuses otherwise than of any
    assert session.kernels().int8 == {"Convolution": 6}
    model = onnx.load(tmp_path / "openvino.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", FINE_OPSET)]
    assert str(FINE_OPSET) in [p.value for p in model.metadata_props if p.key == "opset"]
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    pairs = [n.input[1:] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    types = [stored[zero_point].dtype for _, zero_point in pairs]
    assert (types.count(np.uint16), types.count(np.uint8)) == (2, 6)
    fine = max(float(stored[scale]) for scale, zero_point in pairs if stored[zero_point].dtype == np.uint16)
    assert 50 * fine < min(float(stored[scale]) for scale, zero_point in pairs if stored[zero_point].dtype == np.uint8)


@pytest.mark.parametrize(
    "compute", [lambda m, x: m.b(torch.relu(m.a(x))), lambda m, x: m.c(torch.relu(m.b(y := m.a(x)) + y))]
)
def test_no_later_operator_set_where_no_residual_is_added_in_a_convolution(compute: Any, tmp_path: Path) -> None:
    """There is none, or it is also what the convolution reads: OpenVINO then has a kernel for the addition."""
    net = Net(compute, a=conv(3, 8), b=conv(8, 8), c=conv(8, 4))
    check(net, images(), tmp_path, ["openvino"])
    assert [o.version for o in onnx.load(tmp_path / "openvino.onnx").opset_import] == [OPSET]


def test_the_same_model_gives_the_same_bytes(quantized: Any, tmp_path: Path) -> None:
    again = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    first, second = (
        engine.export_onnx(model, tmp_path / f"{name}.onnx", images(count, seed=count)).read_bytes()
        for name, model, count in (("a", quantized, 1), ("b", again, 5))
    )
    assert first == second


def test_a_file_is_about_a_quarter(tmp_path: Path) -> None:
    net = Net(lambda m, x: m.b(m.a(x)), a=conv(3, 128), b=conv(128, 128))
    sizes = [
        engine.export_onnx(model, tmp_path / "m.onnx", images(1)).stat().st_size
        for model in (engine.quantize(net, [images()]), engine.fuse(net))
    ]
    assert 0.25 < sizes[0] / sizes[1] < 0.28


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_fair_fp32(tmp_path: Path, runtime: str) -> None:
    """Batch norms folded; the answers are the model's."""
    net, x = residual_net(), images(3)
    path = engine.export_onnx(engine.fuse(net), tmp_path / "fp32.onnx", x[:1], runtime=runtime)
    model = onnx.load(path)
    assert {p.key: p.value for p in model.metadata_props}["stage"] == "fused"
    assert not {"BatchNormalization", "QuantizeLinear"} & {node.op_type for node in model.graph.node}
    torch.testing.assert_close(answers(path, x, runtime)["output"], run(net, x), atol=1e-4, rtol=1e-4)


def test_fp32_files_differ_only_in_the_runtime_that_they_name(tmp_path: Path) -> None:
    """So that one of them stands for all where they take long to write."""
    models = [written(engine.fuse(residual_net()), tmp_path, runtime=runtime) for runtime in RUNTIMES]
    named = [{p.key: p.value for p in model.metadata_props}.pop("runtime") for model in models]
    assert named == list(RUNTIMES)
    for model in models:
        model.ClearField("metadata_props")
    assert models[0] == models[1]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_quantized_tensor_is_an_output(quantized: Any, tmp_path: Path, runtime: str) -> None:
    path, x = tmp_path / "m.onnx", images(3)
    engine.export_onnx(quantized, path, x[:1], runtime=runtime, layer_outputs=True)
    found = answers(path, x, runtime)
    assert {"output", *quantized_tensors(quantized)} <= set(found)
    assert [o.name for o in onnx.load(path).graph.output] == ["output", *quantized_tensors(quantized)]
    assert max(steps_apart(quantized, path, x, runtime).values()) <= 1
    kept = run_quantized(quantized, x)
    assert list(kept) == list(quantized_tensors(quantized)) == ["x.quantize", "conv1", "conv2", "pool"]
    assert all(t.dtype is torch.uint8 for t in kept.values())


def test_a_residual_that_a_kernel_writes_over_is_kept_as_it_was() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = torch.relu(m.a(x))
        return m.d(torch.relu(m.c(torch.relu(m.b(y))) + y))

    net = Net(compute, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8), d=conv(8, 4))
    model, x = engine.quantize(net, [images()]), images(3)
    assert model.get_submodule("c").overwrites
    kept = run_quantized(model, x)
    assert torch.equal(kept["a"], run(model.get_submodule("a"), kept["x.quantize"]))


def test_several_outputs_have_names(tmp_path: Path) -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(3, 4), conv(4, 2)

        def forward(self, x: Tensor) -> dict[str, Any]:
            y = self.a(x)
            return {"low": y, "both": (self.b(y), y.flatten(1))}

    model = engine.quantize(Heads().eval(), [images()])
    names = [output.name for output in written(model, tmp_path).graph.output]
    assert names == ["output.low", "output.both.0", "output.both.1"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_reduce_range_is_kept(tmp_path: Path, runtime: str) -> None:
    """Values beyond what calibration saw end at 181, as in torch."""
    qconfig, x = QConfig("narrow", reduce_range=True), images(3)
    net = Net(lambda m, v: m.b(torch.relu(m.a(v))), a=conv(3, 8), b=conv(8, 4))
    model = engine.quantize(net, [x], qconfig)
    path = engine.export_onnx(model, tmp_path / "m.onnx", x, runtime=runtime, layer_outputs=True)
    assert onnx.load(path).metadata_props[-1].value == "true"
    assert int(run_quantized(model, 3 * x)["a"].max()) == 181
    assert max(steps_apart(model, path, 3 * x, runtime).values()) <= 1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_bias_beyond_int32(tmp_path: Path, runtime: str) -> None:
    """A channel whose weights are all but zero has steps in which its bias would not fit."""
    net, x = Net(lambda m, v: m.b(m.a(v)), a=conv(3, 4), b=conv(4, 2)), images(3)
    with torch.no_grad():
        net.a.weight[0].mul_(1e-12)
        net.a.weight[1].zero_()
        net.a.bias.copy_(torch.tensor([3.0, -2.0, 1.0, 0.5]))
    model = engine.quantize(net, [x])
    path = engine.export_onnx(model, tmp_path / "m.onnx", x, runtime=runtime, layer_outputs=True)
    assert max(steps_apart(model, path, x, runtime).values()) <= 1


def test_observed_sums_make_the_inner_range_shorter(tmp_path: Path) -> None:
    """ONNX Runtime rounds before a residual: with what was seen there, in smaller steps."""

    def compute(m: Net, x: Tensor) -> Tensor:
        y = torch.relu(m.a(x))
        return m.c(m.b(y) + y)

    net = Net(compute, a=conv(3, 8), b=conv(8, 8), c=conv(8, 4))
    with torch.no_grad():
        net.b.weight.mul_(0.1)
    scales = []
    for batches in (None, [images()]):
        model = written(engine.quantize(net, [images()]), tmp_path, batches=batches)
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        first = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and "/b/Conv" in n.input[0])
        scales.append(float(stored[first.input[1]]))
    assert scales[1] < 0.5 * scales[0]


def test_refusals(quantized: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, x = tmp_path / "m.onnx", images(1)
    with pytest.raises(ExportError, match="was given a Net"):
        engine.export_onnx(residual_net(), path, x)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=r"unknown runtime 'onnx'.*onnxruntime"):
        engine.export_onnx(quantized, path, x, runtime="onnx")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot write the ONNX file"):
        engine.export_onnx(quantized, tmp_path / "folder", x)
    real = builtins.__import__

    def without_onnx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "onnx":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", without_onnx)
        with pytest.raises(InstallationError, match=r"pip install 'pytest-ptq\[onnxruntime\]'"):
            engine.export_onnx(quantized, path, x)
    assert not path.exists()


class Unusual(nn.Module):
    """Has no form in ONNX."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_a_layer_without_a_form_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    net = Net(lambda m, x: m.b(m.odd(m.a(x))), a=conv(3, 4), odd=Unusual(), b=conv(4, 2))
    for model in (engine.quantize(net, [images()]), engine.fuse(net)):
        with pytest.raises(
            ExportError, match=r"layer odd.*bessel_j0.*cannot be written as ONNX.*run the model in torch"
        ):
            engine.export_onnx(model, tmp_path / "m.onnx", images(1))
    assert capfd.readouterr() == ("", "")


def test_fp32_pools_to_any_size(tmp_path: Path) -> None:
    net = Net(lambda m, x: F.adaptive_max_pool2d(m.pool(m.a(x)), 3), a=conv(3, 4), pool=nn.AdaptiveAvgPool2d((5, 7)))
    for runtime in RUNTIMES:
        path, x = engine.export_onnx(engine.fuse(net), tmp_path / "m.onnx", images(1), runtime=runtime), images(3)
        torch.testing.assert_close(answers(path, x, runtime)["output"], run(net, x), atol=1e-5, rtol=1e-4)


def test_it_is_public_and_loaded_on_first_use() -> None:
    assert pytest_ptq.export_onnx is engine.export_onnx
    assert "export_onnx" in dir(pytest_ptq)


def test_what_reads_fp32_and_what_does_not(tmp_path: Path) -> None:
    model, x = engine.quantize(partly_fp32_net(), [images()]), images(3)
    for runtime in RUNTIMES:
        path = engine.export_onnx(model, tmp_path / "m.onnx", x, runtime=runtime)
        torch.testing.assert_close(answers(path, x, runtime)["output"], run(model, x), atol=0.1, rtol=0.02)
