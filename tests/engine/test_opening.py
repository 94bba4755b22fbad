"""Attention, opened: the same numbers as torch's own layers, with linear layers that can be int8."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from engine.nets import Net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine import kernels
from pytest_ptq.engine.capture import capture
from pytest_ptq.engine.modules import QuantizedLinear
from pytest_ptq.errors import CaptureError


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


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_what_is_not_covered_stays_whole(options: dict[str, Any]) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        return m.last(m.a(x, x, x, need_weights=False)[0])

    model, x = Net(compute, a=attention(batch_first=True, **options), last=nn.Linear(16, 4)), vectors(3, 5, 16)
    torch.testing.assert_close(run(capture(model), x), run(model, x))
    quantized = engine.quantize(model, [x])
    assert linears(quantized) == 1
    assert dict(quantized.plan.fp32_layers)["a"].startswith("int8 kernels multiply an activation by a constant")


CAUSAL = torch.ones(5, 5).triu(1).bool()
PADDING = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]).bool()
MASKS: dict[str, dict[str, Tensor]] = {
    "causal": {"attn_mask": CAUSAL},
    "numbers": {"attn_mask": vectors(5, 5)},
    "minus infinity": {"attn_mask": torch.zeros(5, 5).masked_fill(CAUSAL, -torch.inf)},
    "each head": {"attn_mask": vectors(12, 5, 5) > 1},
    "padding": {"key_padding_mask": PADDING},
    "padding numbers": {"key_padding_mask": vectors(3, 5)},
    "both": {"attn_mask": CAUSAL, "key_padding_mask": PADDING},
    "both, each head": {"attn_mask": vectors(12, 5, 5), "key_padding_mask": torch.zeros(3, 5)},
}


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, weights: bool, tmp_path: Path) -> None:
    """Whether they are constants or computed from the input, of which they are known to be nothing but a size."""
    masks, x = MASKS[name], vectors(3, 5, 16)
    constant = Net(lambda m, x: m.a(x, x, x, need_weights=weights, **masks)[0], a=attention(batch_first=True))

    def compute(m: Net, x: Tensor) -> Tensor:
        nothing = (x - x).mean((0, 1, 2))
        made = {k: v.float() + nothing > 0.5 if v.dtype is torch.bool else v + nothing for k, v in masks.items()}
        return m.a(x, x, x, need_weights=weights, **made)[0]

    computed = Net(compute, a=constant.a)
    for model in (constant, computed):
        torch.testing.assert_close(run(capture(model), x), run(model, x))
        quantized = engine.quantize(model, [x])
        assert linears(quantized) == 2
        assert sqnr(run(model, x), run(quantized, x)) > 25
        loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
        assert torch.equal(run(loaded, x), run(quantized, x))


@pytest.mark.parametrize("mask", [CAUSAL, vectors(4, 5, 5) > 1])
def test_masks_without_a_batch(mask: Tensor) -> None:
    x, keys = vectors(5, 16), PADDING[1]
    model = Net(lambda m, x: m.a(x, x, x, attn_mask=mask, key_padding_mask=keys)[0], a=attention(batch_first=True))
    torch.testing.assert_close(run(capture(model), x), run(model, x))


def test_a_hint_without_its_mask_is_refused() -> None:
    model = Net(lambda m, x: m.a(x, x, x, is_causal=True)[0], a=attention(batch_first=True))
    with pytest.raises(CaptureError, match="is_causal is a hint on attn_mask"):
        capture(model)


@pytest.mark.parametrize("options", [{"attn_mask": vectors(5, 5)}, {"is_causal": True}])
def test_the_function_with_a_mask(options: dict[str, Any]) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        joint = m.a(x).unflatten(-1, (3, 4, 4)).transpose(1, 3)
        parts = [joint[:, :, i] for i in range(3)]
        return m.b(F.scaled_dot_product_attention(*parts, **options).transpose(1, 2).flatten(2))

    model, x = Net(compute, a=nn.Linear(16, 48), b=nn.Linear(16, 4)), vectors(3, 5, 16)
    quantized = engine.quantize(model, [x])
    assert linears(quantized) == 2
    assert sqnr(run(model, x), run(quantized, x)) > 25


class Words(nn.Module):
    """Numbers of words; 0 stands for none, and is masked."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.embedding = nn.Embedding(20, 16)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)
        self.eval()

    def forward(self, words: Tensor) -> Tensor:
        y = self.encoder(self.embedding(words), src_key_padding_mask=words == 0)
        found: Tensor = self.head(y[:, 0])
        return found


def test_words_with_padding(tmp_path: Path) -> None:
    words = torch.randint(1, 20, (16, 7), generator=torch.Generator().manual_seed(0))
    words[::2, 5:] = 0
    model = Words()
    torch.testing.assert_close(run(capture(model), words), run(model, words), rtol=1e-4, atol=1e-5)
    quantized = engine.quantize(model, [words])
    assert linears(quantized) == 9
    assert dict(quantized.plan.fp32_layers)["embedding"] == "it looks rows up and computes nothing"
    assert sqnr(run(model, words), run(quantized, words)) > 25
    longer = torch.cat([words, torch.zeros(16, 3).long()], 1)
    assert sqnr(run(quantized, words), run(quantized, longer)) > 25, "padding is not looked at"
    loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    assert torch.equal(run(loaded, words), run(quantized, words))


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_decoder(norm_first: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=batch_first, norm_first=norm_first)
    length = 5 if batch_first else 3
    mask = torch.ones(length, length).triu(1).bool()
    padding = torch.zeros(8 - length, length).bool().index_fill(1, torch.tensor([length - 1]), True)

    def compute(m: Net, x: Tensor) -> Tensor:
        return m.one(m.many(x, x * 0.5, tgt_mask=mask, memory_key_padding_mask=padding), x, memory_mask=mask)

    model, x = Net(compute, many=nn.TransformerDecoder(layer, 2, nn.LayerNorm(16)), one=layer), vectors(3, 5, 16)
    torch.testing.assert_close(run(capture(model), x), run(model, x), rtol=1e-4, atol=1e-5)
    quantized = engine.quantize(model, [x])
    assert linears(quantized) == 3 * 8
    assert sqnr(run(model, x), run(quantized, x)) > 22


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
    assert sqnr(run(model, x), run(quantized, x)) > (
        14 if kernels.saturates_int16() else 20
    )  # seven-bit activations cost 6 dB
    assert run(quantized, x[:1]).shape == (1, 4)
