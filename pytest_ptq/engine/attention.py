"""Attention and transformers of torch.nn, opened: linear layers, which can be int8, and arithmetic between them.

Attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V (Vaswani et al., arXiv 1706.03762, equation 1).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


@fx.wrap
def attention_mask(pairs: Tensor | None, keys: Tensor | None, heads: int) -> Tensor:
    """What is added to attention's scores: -inf where nothing is to be looked at.

    Args:
        pairs: (L, S), or for each head (N * heads, L, S): True where a query must not see a key, or numbers to add.
        keys: (N, 1, 1, S) or (1, 1, S): True for keys that nobody sees, or numbers to add.
        heads: number of heads.
    """
    found = [_to_add(mask) for mask in (pairs, keys) if mask is not None]
    if pairs is not None and pairs.ndim == 3 and len(pairs) != heads:
        found[0] = found[0].unflatten(0, (-1, heads))  # type: ignore[no-untyped-call]
    return sum(found[1:], found[0])


def _to_add(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape).masked_fill(mask, -math.inf) if mask.dtype is torch.bool else mask


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    layer.in_features, layer.out_features = weight.shape[1], weight.shape[0]
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer.eval()


def open_attention(whole: nn.MultiheadAttention) -> nn.Module:
    """`nn.MultiheadAttention`, opened; with keys of its own beside those it is given, it stays as it is."""
    return OpenedAttention(whole) if whole.bias_k is None and not whole.add_zero_attn else whole


class OpenedAttention(nn.Module):
    """`nn.MultiheadAttention`: linear layers in and out, and attention between them."""

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.width, self.batch_first = whole.num_heads, whole.head_dim, whole.batch_first
        bias = whole.in_proj_bias
        biases = (None, None, None) if bias is None else bias.chunk(3)
        joint: Tensor | None = whole.in_proj_weight
        self.in_proj = None if joint is None else _linear(joint, bias)
        apart = (whole.q_proj_weight, whole.k_proj_weight, whole.v_proj_weight)
        weights = apart if joint is None else joint.chunk(3)
        self.q_proj, self.k_proj, self.v_proj = (_linear(w, b) for w, b in zip(weights, biases, strict=True))
        self.out_proj = _linear(whole.out_proj.weight, whole.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if is_causal and attn_mask is None:
            raise ValueError("is_causal is a hint on attn_mask, which has to be given too")
        if self.in_proj is not None and query is key and key is value:
            parts = self.in_proj(query).chunk(3, -1)
            q, k, v = (self._split(parts[i]) for i in range(3))
        else:
            q, k, v = (
                self._split(layer(x)) for layer, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
            )
        mask = None
        if attn_mask is not None or key_padding_mask is not None:
            mask = attention_mask(attn_mask, _for_heads(key_padding_mask), self.heads)
        weights = None
        if need_weights:
            scores = (q @ k.transpose(-2, -1)) / math.sqrt(self.width)
            shares = F.softmax(scores if mask is None else scores + mask, -1)
            y = shares @ v
            weights = shares.mean(-3) if average_attn_weights else shares
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask)
        y = y.transpose(-3, -2) if self.batch_first else y.movedim(-2, 0)
        return self.out_proj(y.flatten(-2)), weights

    def _split(self, x: Tensor) -> Tensor:
        """(..., L, E) -> (..., heads, L, E / heads); (L, ..., E) without batch_first."""
        x = x.unflatten(-1, (self.heads, self.width))  # type: ignore[no-untyped-call]
        return x.transpose(-3, -2) if self.batch_first else x.movedim(0, -2)


def _for_heads(keys: Tensor | None) -> Tensor | None:
    """(N, S) -> (N, 1, 1, S), (S,) -> (1, 1, S)."""
    return None if keys is None else keys.unsqueeze(-2).unsqueeze(-2)


class _Opened(nn.Module):
    """What the layers of encoders and decoders share."""

    linear1: nn.Module
    linear2: nn.Module
    activation: Any

    def _look(self, attention: nn.Module, x: Tensor, memory: Tensor, mask: Tensor | None, padding: Any) -> Tensor:
        y: Tensor = attention(x, memory, memory, attn_mask=mask, key_padding_mask=padding, need_weights=False)[0]
        return y

    def _feed(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.activation(self.linear1(x)))
        return y


class OpenedEncoderLayer(_Opened):
    """`nn.TransformerEncoderLayer`."""

    def __init__(self, whole: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.self_attn = whole.self_attn
        self.linear1, self.linear2, self.norm1, self.norm2 = whole.linear1, whole.linear2, whole.norm1, whole.norm2
        self.activation, self.norm_first = whole.activation, whole.norm_first

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        x = self.norm1(src) if self.norm_first else src
        x = src + self._look(self.self_attn, x, x, src_mask, src_key_padding_mask)
        if self.norm_first:
            return x + self._feed(self.norm2(x))
        x = self.norm1(x)
        y: Tensor = self.norm2(x + self._feed(x))
        return y


class OpenedDecoderLayer(_Opened):
    """`nn.TransformerDecoderLayer`."""

    def __init__(self, whole: nn.TransformerDecoderLayer) -> None:
        super().__init__()
        self.self_attn, self.multihead_attn = whole.self_attn, whole.multihead_attn
        self.linear1, self.linear2 = whole.linear1, whole.linear2
        self.norm1, self.norm2, self.norm3 = whole.norm1, whole.norm2, whole.norm3
        self.activation, self.norm_first = whole.activation, whole.norm_first

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        first = self.norm_first
        x = self.norm1(tgt) if first else tgt
        x = tgt + self._look(self.self_attn, x, x, tgt_mask, tgt_key_padding_mask)
        x = x if first else self.norm1(x)
        asks = self.norm2(x) if first else x
        x = x + self._look(self.multihead_attn, asks, memory, memory_mask, memory_key_padding_mask)
        x = x if first else self.norm2(x)
        x = x + self._feed(self.norm3(x) if first else x)
        return x if first else self.norm3(x)


class OpenedEncoder(nn.Module):
    """`nn.TransformerEncoder`."""

    def __init__(self, whole: nn.TransformerEncoder) -> None:
        super().__init__()
        self.layers, self.norm = nn.ModuleList(whole.layers), whole.norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
        return src if self.norm is None else self.norm(src)


class OpenedDecoder(nn.Module):
    """`nn.TransformerDecoder`."""

    def __init__(self, whole: nn.TransformerDecoder) -> None:
        super().__init__()
        self.layers, self.norm = nn.ModuleList(whole.layers), whole.norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return tgt if self.norm is None else self.norm(tgt)
