"""Whole models as programs of compiled kernels, against the graphs that they were made from."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import images, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.deployment import deploy
from pytest_ptq.engine.deployment.native import to_native
from pytest_ptq.engine.deployment.walk import NotNativeError
from pytest_ptq.engine.kernels import native
from pytest_ptq.qconfig import QConfig

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())


class Shuffling(nn.Module):
    """What ShuffleNet does to channels, and a squeeze-and-excitation with a hard gate."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 24, 3, 2, 1)
        self.side = nn.Conv2d(12, 12, 3, 1, 1, groups=12)
        self.point = nn.Conv2d(12, 12, 1)
        self.squeeze, self.excite = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)
        self.fc = nn.Linear(24 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        a, b = x.chunk(2, 1)
        x = torch.cat([a, F.relu(self.point(self.side(b)))], 1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        x = x * F.hardsigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = F.adaptive_avg_pool2d(F.max_pool2d(F.hardswish(x), 3, 2, 1), 2)
        found: Tensor = self.fc(torch.flatten(x, 1))
        return found


DATA = [images(4, 32, seed=s) for s in range(2)]


@pytest.fixture(scope="module")
def shuffling() -> engine.QuantizedModule:
    return engine.quantize(Shuffling().eval(), DATA, QConfig("wide", reduce_range=False))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_model_answers_as_its_graph_does(shuffling: engine.QuantizedModule, batch: int, threads: int) -> None:
    torch.set_num_threads(threads)
    found = to_native(shuffling, DATA[0][:batch])
    for data in DATA:
        with torch.inference_mode():
            assert sqnr(shuffling(data[:batch]), found(data[:batch])) > 35
    kinds = found.program(DATA[0][:batch]).kinds
    assert kinds.count("interleave") == 1
    assert kinds.count("quantize") == 1
    assert kinds.count("copy") == 1, "the hardswish that stands alone: channels are put in turn from where they lie"


def test_a_call_allocates_its_answer_alone(shuffling: engine.QuantizedModule) -> None:
    from torch.profiler import ProfilerActivity, profile

    found, x = deploy(shuffling, DATA[0][:1]), DATA[0][:1]
    assert (found.kernels, found.caller, found.not_native) == ("native", "program", "")
    with torch.inference_mode():
        found(x)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            found(x)
    assert sum(max(event.self_cpu_memory_usage, 0) for event in seen.events()) <= 64
    assert {event.name for event in seen.events() if event.name.startswith("aten::")} <= {
        "aten::clone", "aten::empty_like", "aten::empty", "aten::empty_strided", "aten::copy_",
    }  # fmt: skip


def test_other_batches_and_sizes_are_answered_too(shuffling: engine.QuantizedModule) -> None:
    found = deploy(shuffling, DATA[0][:1])
    with torch.inference_mode():
        for n in (1, 2, 3, 4, 1, 5, 6, 1):
            x = images(n, 32, seed=n)
            assert sqnr(shuffling(x), found(x)) > 35
        wide = images(2, 40, seed=9)
        assert torch.equal(shuffling(wide), found(wide)), "an image of another size runs through the graph"


def test_what_has_no_step_is_named_and_answered_by_other_kernels() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(8 * 30 * 30, 4)).eval()
    model = engine.quantize(net, DATA, QConfig("wide", reduce_range=False))
    with pytest.raises(NotNativeError):
        to_native(model, DATA[0][:1])
    found = deploy(model, DATA[0][:1])
    assert found.kernels != "native"
    assert found.not_native
    assert sqnr(model(DATA[1]), found(DATA[1])) > 35


def test_an_input_that_the_model_refuses_is_refused_when_it_is_called(shuffling: engine.QuantizedModule) -> None:
    wrong = torch.rand(1, 5, 32, 32)
    found = deploy(shuffling, wrong)
    assert found.not_native == "the model refuses an input of shape (1, 5, 32, 32)"
    with pytest.raises(RuntimeError):
        found(wrong)


def test_a_program_is_not_copied(shuffling: engine.QuantizedModule) -> None:
    with pytest.raises(TypeError, match="addresses"):
        copy.deepcopy(to_native(shuffling, DATA[0][:1]).program(DATA[0][:1]))
