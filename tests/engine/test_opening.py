"""Attention, opened: the same numbers as torch's own layers, with linear layers that can be int8."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from engine.nets import Net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.capture import capture
from pytest_ptq.engine.modules import QuantizedLinear


def vectors(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(16, 4, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return layer


def linears(quantized: nn.Module) -> int:
    return sum(isinstance(layer, QuantizedLinear) for layer in quantized.modules())


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 16), (5, 16)], ids=["batched", "unbatched"])
@pytest.mark.parametrize("weights", [True, False])
def test_self_attention(batch_first: bool, shape: tuple[int, ...], weights: bool) -> None:
    model = Net(lambda m, x: m.a(x, x, x, need_weights=weights)[0], a=attention(batch_first=batch_first))
    x = vectors(*shape)
    torch.testing.assert_close(run(capture(model), x), run(model, x))
    quantized = engine.quantize(model, [x])
    assert linears(quantized) == 2
    assert sqnr(run(model, x), run(quantized, x)) > 25


@pytest.mark.parametrize("options", [{}, {"kdim": 12, "vdim": 10}, {"bias": False}])
def test_attention_to_others(options: dict[str, Any]) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        k, v = x[..., : options.get("kdim", 16)], x[..., : options.get("vdim", 16)]
        return m.a(x, k, v, need_weights=False)[0]

    model, x = Net(compute, a=attention(batch_first=True, **options)), vectors(3, 5, 16)
    torch.testing.assert_close(run(capture(model), x), run(model, x))
    quantized = engine.quantize(model, [x])
    assert linears(quantized) == 4
    assert sqnr(run(model, x), run(quantized, x)) > 25


@pytest.mark.parametrize("average", [True, False])
def test_its_weights(average: bool) -> None:
    model = Net(lambda m, x: m.a(x, x, x, average_attn_weights=average)[1], a=attention(batch_first=True))
    x = vectors(3, 5, 16)
    torch.testing.assert_close(run(capture(model), x), run(model, x))


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}, {}])
def test_what_is_not_covered_stays_whole(options: dict[str, Any]) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        mask = None if options else torch.ones(5, 5).triu(1).bool()
        return m.last(m.a(x, x, x, need_weights=False, attn_mask=mask)[0])

    model, x = Net(compute, a=attention(batch_first=True, **options), last=nn.Linear(16, 4)), vectors(3, 5, 16)
    torch.testing.assert_close(run(capture(model), x), run(model, x))
    quantized = engine.quantize(model, [x])
    assert linears(quantized) == 1
    assert dict(quantized.plan.fp32_layers)["a.whole"].startswith("int8 kernels multiply an activation by a constant")


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer(norm_first: bool, activation: str, batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, 0.1, activation, batch_first=batch_first, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False).eval()
    x, described = vectors(3, 5, 16), copy.deepcopy(model.state_dict())
    torch.testing.assert_close(run(capture(model), x), run(model, x), rtol=1e-4, atol=1e-5)
    quantized = engine.quantize(model, [x])
    assert linears(quantized) == 8
    assert sqnr(run(model, x), run(quantized, x)) > 25
    assert all(torch.equal(value, described[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("size", [(32, 32), (36, 44), (64, 20)])
def test_windows_of_any_size(size: tuple[int, int]) -> None:
    """Images that windows do not divide are padded; one window leaves nothing to shift."""
    torch.manual_seed(0)
    model = SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=4).eval()
    x = vectors(2, 3, *size)
    torch.testing.assert_close(run(capture(model), x), run(model, x), rtol=1e-4, atol=1e-5)
    quantized = engine.quantize(model, [x])
    assert sqnr(run(model, x), run(quantized, x)) > 20
    assert run(quantized, x[:1]).shape == (1, 4)
