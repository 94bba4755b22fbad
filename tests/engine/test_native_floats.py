"""Compiled kernels in float32, against torch's in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.nets import images
from engine.test_native import ACTIVATIONS, convolutions, depthwise_convolutions
from engine.test_native_models import Shuffling
from pytest_ptq.engine.deployment import deploy
from pytest_ptq.engine.deployment.emit_float import ENDINGS
from pytest_ptq.engine.freeze import freeze
from pytest_ptq.engine.kernels import native

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())

FUNCTIONS = {**ACTIVATIONS, "relu": F.relu, "relu6": F.relu6}


def convolve(case: dict[str, Any], activation: str, depthwise: bool) -> tuple[Tensor, Tensor]:
    """What the kernel finds, and what torch does in float64."""
    generator = torch.Generator().manual_seed(case["seed"])
    x = torch.randn(case["images"], case["channels"], *case["size"], generator=generator)
    outputs, groups = case.get("outputs", case["channels"]), case["channels"] if depthwise else case["groups"]
    weight = torch.randn(outputs, case["channels"] // groups, *case["kernel"], generator=generator)
    bias = torch.randn(outputs, generator=generator)
    shape = case["stride"], case["padding"], case["dilation"], groups
    exact = F.conv2d(x.double(), weight.double(), bias.double(), *shape)
    if case.get("residual"):
        exact = exact + F.conv2d(x.double(), -weight.double(), None, *shape)
    source, y = native.image(x.shape, unit=4), native.image(exact.shape, unit=4)
    assert source.buffer.widen(*case["padding"], 0)
    found = torch.empty(exact.shape).contiguous(memory_format=torch.channels_last)
    y.buffer.fix(found)
    geometry, ending = native.Geometry(*shape), ENDINGS[activation]
    steps = [native.float_input(source)]
    if depthwise:
        steps.append(native.float_depthwise(source, y, weight, bias, geometry, ending))
    else:
        other = native.image(exact.shape, unit=4) if case["residual"] else None
        if other is not None:
            none = torch.zeros(outputs)
            steps.append(native.float_product(source, other, -weight, none, geometry, native.Ending()))
        steps.append(native.float_product(source, y, weight, bias, geometry, ending, other))
    torch.set_num_threads(case["threads"])
    return native.Program(steps, found)(x), FUNCTIONS[activation](exact)


@settings(max_examples=100, deadline=None)
@given(convolutions(), st.sampled_from(list(FUNCTIONS)))
def test_convolutions(case: dict[str, Any], activation: str) -> None:
    found, exact = convolve(case, activation, depthwise=False)
    assert torch.allclose(found.double(), exact, rtol=1e-5, atol=2e-4)


@settings(max_examples=100, deadline=None)
@given(depthwise_convolutions(), st.sampled_from(list(FUNCTIONS)))
def test_depthwise_convolutions(case: dict[str, Any], activation: str) -> None:
    found, exact = convolve(case, activation, depthwise=True)
    assert torch.allclose(found.double(), exact, rtol=1e-5, atol=2e-4)


class Around(Shuffling):
    """All that lies between convolutions, and averages and sums that are nobody's residual."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        a, b = x.chunk(2, 1)
        x = torch.cat([a, F.avg_pool2d(b, 1) + a], 1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        x = x * torch.sigmoid(self.excite(F.hardswish(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = F.adaptive_avg_pool2d(F.relu(F.max_pool2d(x, 3, 2, 1)), 2)
        found: Tensor = self.fc(torch.flatten(x, 1))
        return found


@pytest.mark.parametrize("net", [Shuffling, Around])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_frozen_model_is_called_as_an_int8_one_is(net: type[nn.Module], threads: int) -> None:
    torch.set_num_threads(threads)
    model = net().eval()
    frozen = freeze(model)
    found = deploy(frozen, images(1, 32))
    assert (found.kernels, found.caller, found.not_native) == ("native", "program", "")
    for n in (1, 3):
        x = images(n, 32, seed=n)
        with torch.inference_mode():
            assert torch.allclose(found(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_float_model_without_such_a_step_is_traced() -> None:
    frozen = freeze(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Softplus(), nn.Flatten(), nn.Linear(8 * 30 * 30, 4)).eval())
    found = deploy(frozen, images(1, 32))
    assert (found.kernels, found.caller) == ("float", "torchscript")
    assert found.not_native == "Softplus"


def test_an_image_may_be_the_answer() -> None:
    frozen = freeze(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1)).eval())
    found, x = deploy(frozen, images(1, 32)), images(2, 32, seed=3)
    assert found.kernels == "native"
    with torch.inference_mode():
        assert torch.allclose(found(x), frozen(x), rtol=1e-4, atol=1e-5)
        kept = found(x)
        before = kept.clone()
        found(images(2, 32, seed=4))
        assert torch.equal(kept, before), "an answer is the caller's own"
