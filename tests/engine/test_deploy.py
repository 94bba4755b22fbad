"""The deployed form of a model: the same answers, from one program, on inputs of any batch size."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from engine.nets import images, residual_net, sqnr
from pytest_ptq import engine
from pytest_ptq.engine import deployment as deploying
from pytest_ptq.engine import kernels
from pytest_ptq.engine.deployment import deploy
from pytest_ptq.engine.freeze import freeze
from pytest_ptq.engine.kernels.native import UnavailableError
from pytest_ptq.errors import QuantizationError
from pytest_ptq.qconfig import QConfig


@pytest.fixture(autouse=True)
def _torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiled kernels: what they do is in `test_native`."""

    def refuse(*_: object) -> None:
        raise UnavailableError("not in these tests")

    monkeypatch.setattr(deploying, "to_native", refuse)


class Pooled(nn.Module):
    """What a packed graph meets: pooling in the middle, a residual that is read again, a classifier."""

    def __init__(self, activation: nn.Module, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.third = nn.Conv2d(width, width, 1)
        self.fc = nn.Linear(width, 5)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.activation(self.first(x)))
        y = self.activation(self.second(x) + x)
        y = self.third(y) + x
        found: Tensor = self.fc(y.mean((2, 3)))
        return found


DATA = [images(4, 32, seed=s) for s in range(2)]
WIDE = QConfig("wide", reduce_range=False)
NETS = {
    "relu": lambda: Pooled(nn.ReLU()), "relu6": lambda: Pooled(nn.ReLU6()), "hardswish": lambda: Pooled(nn.Hardswish()),
    "residual": residual_net, "wide": lambda: Pooled(nn.ReLU(), 64),
}  # fmt: skip


def quantized(name: str) -> engine.QuantizedModule:
    return engine.quantize(NETS[name]().eval(), DATA, WIDE)


@pytest.mark.parametrize("name", NETS)
def test_it_answers_as_the_model_does(name: str) -> None:
    model = quantized(name)
    found = deploy(model, DATA[0][:1])
    assert found.caller == "torchscript"
    assert found.kernels == ("plain" if name == "hardswish" else "packed")
    for x in (DATA[0][:1], DATA[1], DATA[1][:3]):
        with torch.inference_mode():
            expected, answered = model(x), found(x)
        # Values that lie half-way may be rounded the other way, and nothing else.
        assert sqnr(expected, answered) > (120 if found.kernels == "plain" else 35)


@pytest.mark.parametrize("name", ["relu", "residual", "hardswish"])
def test_the_float_rival_is_called_alike(name: str) -> None:
    frozen = freeze(NETS[name]().eval())
    found = deploy(frozen, DATA[0][:1])
    assert (found.caller, found.kernels) == ("torchscript", "float")
    with torch.inference_mode():
        assert torch.equal(found(DATA[1]), frozen(DATA[1]))


def test_an_image_of_another_size_runs_through_the_graph() -> None:
    model = quantized("relu")
    found = deploy(model, DATA[0][:1])
    x = images(2, 24, seed=5)
    with torch.inference_mode():
        assert torch.equal(found(x), model(x))


def test_neither_model_nor_process_is_changed() -> None:
    model, before = quantized("residual"), torch.backends.quantized.engine
    x = DATA[0][:1]
    expected, kept = model(x), copy.deepcopy(DATA[0])
    found = deploy(model, x)
    found(x)
    assert torch.backends.quantized.engine == before
    assert torch.equal(model(x), expected)
    assert torch.equal(DATA[0], kept)


def test_a_residual_that_is_read_again_keeps_its_values() -> None:
    model = quantized("relu")
    x = DATA[0][:1]
    found = deploy(model, x)
    with torch.inference_mode():
        assert all(torch.equal(found(x), found(x)) for _ in range(3))
        assert sqnr(model(x), found(x)) > 35


def test_without_quantized_tensors_the_plain_kernels_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "has_quantized_tensors", lambda: False)
    model = quantized("relu")
    found = deploy(model, DATA[0][:1])
    assert (found.kernels, found.caller) == ("plain", "torchscript")
    with torch.inference_mode():
        assert torch.equal(found(DATA[1]), model(DATA[1]))


def test_a_program_that_answers_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model, wrong = quantized("relu"), quantized("relu")
    wrong.fc._bias = wrong.fc._bias + 1
    monkeypatch.setattr(deploying, "to_packed", lambda *_: None)
    monkeypatch.setattr(deploying, "to_ready", lambda _, x: wrong)
    found = deploy(model, DATA[0][:1])
    assert (found.caller, found.kernels) == ("python", "plain")
    with torch.inference_mode():
        assert torch.equal(found(DATA[0]), model(DATA[0]))


def test_a_model_that_cannot_be_traced_is_called_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.jit, "trace", None)
    model = quantized("relu")
    found = deploy(model, DATA[0][:1])
    assert (found.caller, found.kernels) == ("python", "plain")
    with torch.inference_mode():
        assert torch.equal(found(DATA[0]), model(DATA[0]))


def test_a_range_of_fewer_integers_stays_with_the_plain_kernels() -> None:
    narrow = QConfig("narrow", reduce_range=True)
    model = engine.quantize(NETS["relu"]().eval(), DATA, narrow)
    assert deploy(model, DATA[0][:1]).kernels == "plain"


def test_what_is_no_stage_is_refused() -> None:
    with pytest.raises(QuantizationError, match="deploy was given a ReLU"):
        deploy(nn.ReLU(), DATA[0][:1])  # type: ignore[arg-type]


def test_a_program_calls_one_kernel_a_layer_and_copies_no_more_than_it_must() -> None:
    """Counted in the program itself: what is not there costs no time."""
    found = deploy(quantized("residual"), DATA[0][:1])
    kinds = [node.kind() for node in found.program.inlined_graph.nodes()]
    assert sum(kind.startswith("quantized::conv2d") for kind in kinds) == 2
    assert kinds.count("quantized::conv2d_add") + kinds.count("quantized::conv2d_add_relu") == 1
    assert kinds.count("aten::quantize_per_tensor") == 1
    assert kinds.count("aten::int_repr") == 1, "one way out, before the classifier"
    assert kinds.count("aten::clone") == 1, "what the second convolution adds is what it reads"
    assert not {"aten::dequantize", "aten::_make_per_tensor_quantized_tensor"} & set(kinds)
    # quantized::linear takes hundreds of times as long at an input zero point other than 0.
    assert not [kind for kind in kinds if kind.startswith("quantized::linear")]
    assert sum(kind.startswith("onednn::qlinear") for kind in kinds) == 1


def test_a_program_of_plain_kernels_packs_nothing_when_it_is_called() -> None:
    found = deploy(quantized("hardswish"), DATA[0][:1])
    kinds = [node.kind() for node in found.program.inlined_graph.nodes()]
    assert not [kind for kind in kinds if "prepack" in kind or "reorder" in kind]
    # The third convolution adds a residual that is nobody else's; the second one's is read again behind it.
    assert kinds.count("aten::clone") == 1


def allocated(found: deploying.DeployedModule, x: Tensor) -> int:
    """Bytes that one call asks torch for."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        found(x)
    return sum(max(event.self_cpu_memory_usage, 0) for event in seen.events())


def test_a_call_allocates_its_activations_and_nothing_of_its_weights() -> None:
    """Once the first calls have made what is kept: the same bytes each time, and so many for each image."""
    found, x = deploy(quantized("residual"), DATA[0][:1]), DATA[0][:1]
    for _ in range(3):
        found(x)
    one = allocated(found, x)
    assert allocated(found, x) == allocated(found, x) == one
    integers = 8 * 32 * 32
    image, pooled = 4 * 3 * 32 * 32, 4 * integers
    assert one <= image + 5 * integers + pooled + 256, "a copy more than there was"
    assert allocated(found, DATA[0]) <= 4 * one
