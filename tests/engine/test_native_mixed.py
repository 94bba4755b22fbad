"""Models that pad by layers of their own, keep parts in fp32, or end in an image: programs, against their graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import Net, images, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.deployment import deploy
from pytest_ptq.engine.deployment.native import NotNativeError, to_native
from pytest_ptq.engine.freeze import freeze
from pytest_ptq.engine.kernels import native
from pytest_ptq.qconfig import X86, QConfig

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())

WIDE = replace(X86, reduce_range=False)
DATA = [images(4, 33, seed=s) for s in range(2)]


def kinds_of(model: nn.Module, qconfig: QConfig = WIDE, dB: float = 35) -> tuple[list[str], list[str]]:  # noqa: N803
    """The steps in int8 and in float32, once both have answered as their graphs do."""
    int8, frozen = engine.quantize(model, DATA, qconfig), freeze(model)
    for x in (DATA[0][:1], DATA[1][:3]):
        with torch.inference_mode():
            assert sqnr(int8(x), to_native(int8, x)(x)) > dB
            assert torch.allclose(to_native(frozen, x)(x), model(x), rtol=1e-4, atol=1e-5)
    return to_native(int8, DATA[0]).program(DATA[0]).kinds, to_native(frozen, DATA[0]).program(DATA[0]).kinds


def net(compute: Callable[[Net, Tensor], Tensor], **more: nn.Module) -> Net:
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {
        "first": nn.Conv2d(3, 16, 3), "deep": nn.Conv2d(16, 16, 3, 2, groups=16), "last": nn.Conv2d(16, 16, 3, 2, 1),
        "head": nn.Linear(16, 10), **more,
    }  # fmt: skip
    return Net(compute, **layers)


def headed(m: Net, x: Tensor) -> Tensor:
    found: Tensor = m.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
    return found


def test_padding_before_a_convolution_is_its_border() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        x = F.relu6(m.first(m.pad(x)))
        x = F.relu6(m.deep(F.pad(x, (0, 1, 0, 1))))
        return headed(m, F.relu(m.last(F.pad(x, (2, 0)))))

    int8, real = kinds_of(net(compute, pad=nn.ZeroPad2d((0, 2, 1, 3))))
    assert "average" not in int8
    assert "copy" not in int8
    assert int8.count("depthwise") == 1
    assert real.count("float_pool") == 1, "the mean"
    assert "float_copy" not in real


def test_padding_before_anything_else_is_laid_out() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.pad(F.hardswish(m.first(x)), (2, 3, 1, 2)), 2)
        return headed(m, F.relu(m.last(F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, ceil_mode=True))))

    int8, real = kinds_of(net(compute))
    assert (int8.count("average"), int8.count("maximum")) == (3, 1)
    assert real.count("float_pool") == 5


def test_the_same_image_with_and_without_padding() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        x = F.relu(m.first(x))
        return headed(m, F.relu(m.last(F.pad(x, (0, 1, 0, 1)))) + F.relu(m.same(x)))

    int8, _ = kinds_of(net(compute, same=nn.Conv2d(16, 16, 3, 2, 1)))
    assert "copy" not in int8, "both read one border"


def test_padding_of_channels_has_no_step() -> None:
    model = net(lambda m, x: headed(m, F.pad(F.relu(m.first(x)), (0, 0, 0, 0, 0, 1))[:, :16]))
    with pytest.raises(NotNativeError):
        to_native(engine.quantize(model, DATA, WIDE), DATA[0])


def plain(m: Net, x: Tensor) -> Tensor:
    x = F.relu6(m.first(x))
    x = F.hardswish(m.last(F.silu(m.deep(x))))
    return headed(m, F.max_pool2d(x, 2))


@pytest.mark.parametrize("kept", [("first",), ("deep",), ("last",), ("head",), ("first", "head"), ("deep", "last")])
def test_layers_that_stay_in_fp32_are_steps_of_the_same_program(kept: tuple[str, ...]) -> None:
    int8, _ = kinds_of(net(plain), replace(WIDE, fp32_layers=kept))
    assert sum(kind in ("float_product", "float_depthwise") for kind in int8) == len(kept)
    assert sum(kind in ("product", "depthwise") for kind in int8) == 4 - len(kept)
    assert int8.count("float_input") == ("first" in kept)
    found = deploy(engine.quantize(net(plain), DATA, replace(WIDE, fp32_layers=kept)), DATA[0][:1])
    assert (found.kernels, found.caller, found.not_native) == ("native", "program", "")


def test_an_input_that_is_read_in_int8_and_in_float32() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        return headed(m, F.relu(m.first(x)) + F.relu(m.beside(x)))

    model = net(compute, beside=nn.Conv2d(3, 16, 3))
    int8, _ = kinds_of(model, replace(WIDE, fp32_layers=("beside",)))
    assert (int8.count("float_input"), int8.count("quantize")) == (1, 2)


def test_an_input_whose_size_is_asked_for_is_read_once() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        found: Tensor = m.head(F.relu(m.first(x)).mean((2, 3)).view(x.size(0), -1))
        return found

    int8, _ = kinds_of(net(compute))
    assert (int8.count("float_input"), int8.count("quantize")) == (0, 1)


class Modern(nn.Module):
    """A block of ConvNeXt: norms over channels, linear layers on pixels, and a factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.deep = nn.Conv2d(3, 24, 4, 4), nn.Conv2d(24, 24, 7, padding=3, groups=24)
        self.norm, self.wide, self.narrow = nn.LayerNorm(24), nn.Linear(24, 40), nn.Linear(40, 24)
        self.scale, self.head = nn.Parameter(torch.rand(24, 1, 1)), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        y = self.narrow(F.gelu(self.wide(y))).permute(0, 3, 1, 2)
        x = self.scale * y + x
        found: Tensor = self.head(F.layer_norm(F.adaptive_avg_pool2d(x, 1).flatten(1), (24,)))
        return found


def test_a_block_of_norms_and_linear_layers_on_pixels() -> None:
    int8, real = kinds_of(Modern().eval())
    assert (int8.count("float_norm"), int8.count("depthwise"), int8.count("product")) == (2, 1, 4)
    assert real.count("float_norm") == 2


def test_numbers_and_activations_that_stand_alone() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        x = F.leaky_relu(F.gelu(F.max_pool2d(m.first(x) * 1.5 + 0.25, 2)) + 1)
        x = torch.tanh(F.gelu(F.max_pool2d(x, 2), approximate="tanh"))
        return headed(m, torch.clamp(F.hardsigmoid(F.max_pool2d(x, 2)), 0))

    kinds_of(net(compute))


@pytest.mark.parametrize(
    "arithmetic", [lambda x: torch.add(x, x, alpha=2), lambda x: x * x, lambda x: x + x[:, :, :1, :1]]
)
def test_arithmetic_without_a_step(arithmetic: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotNativeError):
        to_native(freeze(net(lambda m, x: headed(m, arithmetic(m.first(x))))), DATA[0])


def test_channels_are_split_and_pooled_to_sizes_that_do_not_divide_them() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        a, b, c = torch.split(F.relu(m.first(x)), [4, 8, 4], 1)
        x = torch.cat([F.adaptive_avg_pool2d(b, (5, 7)), F.adaptive_max_pool2d(torch.cat([c, a], 1), (5, 7))], 1)
        return headed(m, F.relu(m.last(x)))

    kinds_of(net(compute))


ENDS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "a convolution": lambda m, x: m.last(x),
    "a convolution and a ReLU": lambda m, x: F.relu(m.last(x)),
    "one kernel a channel": lambda m, x: F.relu6(m.deep(x)),
    "a sum": lambda m, x: F.relu(m.last(x)) + F.relu(m.deep(F.pad(x, (1, 1, 1, 1)))),
    "the sum of a residual": lambda m, x: F.relu(m.same(x) + x),
    "averages": lambda m, x: F.avg_pool2d(F.relu(m.last(x)), 3),
    "a part of the channels": lambda m, x: F.max_pool2d(F.relu(m.last(x)), 2).chunk(2, 1)[1],
    "channels beside each other": lambda m, x: torch.cat([F.relu(m.last(x)), F.relu(m.last(x + 1))], 1),
    "what is read again with a border": lambda m, x: F.relu(m.same(x)),
    "pixels": lambda m, x: m.head(x.permute(0, 2, 3, 1)),
    "padding": lambda m, x: F.pad(m.last(x), (1, 0, 2, 0)),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_model_may_end_in(end: str) -> None:
    model = net(lambda m, x: ENDS[end](m, F.relu(m.first(x))), same=nn.Conv2d(16, 16, 3, padding=1))
    kinds_of(model)
