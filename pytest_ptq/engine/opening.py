"""Layers that a tracer sees only from outside, opened: attention and transformers as linear layers and arithmetic.

Each computes what the layer it stands for computes in eval mode, with the same tensors under the same names. Uses it
does not cover (masks, attention with extra keys) call the whole layer, which then stays in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


def open_layers(model: nn.Module) -> None:
    """Replace every layer below `model` that the table knows. `model` is a copy that may be changed."""
    for name, child in list(model.named_children()):
        opened = _OPENED.get(f"{type(child).__module__}.{type(child).__qualname__}")
        if opened is None:
            open_layers(child)
        else:
            setattr(model, name, opened(child))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    layer.in_features, layer.out_features = weight.shape[1], weight.shape[0]
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer.eval()


class OpenedAttention(nn.Module):
    """`nn.MultiheadAttention` without masks: linear layers in and out, and attention between them.

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V (Vaswani et al., arXiv 1706.03762, equation 1).
    """

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.batch_first = whole.num_heads, whole.batch_first
        self.opens = whole.bias_k is None and not whole.add_zero_attn
        bias = whole.in_proj_bias
        biases = (None, None, None) if bias is None else bias.chunk(3)
        joint: Tensor | None = whole.in_proj_weight
        self.in_proj = None if joint is None else _linear(joint, bias)
        apart = (whole.q_proj_weight, whole.k_proj_weight, whole.v_proj_weight)
        weights = apart if joint is None else joint.chunk(3)
        self.q_proj, self.k_proj, self.v_proj = (_linear(w, b) for w, b in zip(weights, biases, strict=True))
        self.out_proj = _linear(whole.out_proj.weight, whole.out_proj.bias)
        self.whole = whole

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
        if not self.opens or key_padding_mask is not None or attn_mask is not None or is_causal:
            found: tuple[Tensor, Tensor | None] = self.whole(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
            return found
        if self.in_proj is not None and query is key and key is value:
            parts = self.in_proj(query).chunk(3, -1)
            q, k, v = (self._split(parts[i]) for i in range(3))
        else:
            q, k, v = (
                self._split(layer(x)) for layer, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
            )
        weights = None
        if need_weights:
            shares = F.softmax((q @ k.transpose(-2, -1)) / math.sqrt(self.whole.head_dim), -1)
            y = shares @ v
            weights = shares.mean(-3) if average_attn_weights else shares
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(-3, -2) if self.batch_first else y.movedim(-2, 0)
        return self.out_proj(y.flatten(-2)), weights

    def _split(self, x: Tensor) -> Tensor:
        """(..., L, E) -> (..., heads, L, E / heads); (L, ..., E) without batch_first."""
        x = x.unflatten(-1, (self.heads, self.whole.head_dim))  # type: ignore[no-untyped-call]
        return x.transpose(-3, -2) if self.batch_first else x.movedim(0, -2)


class OpenedEncoderLayer(nn.Module):
    """`nn.TransformerEncoderLayer` without masks."""

    def __init__(self, whole: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.self_attn = OpenedAttention(whole.self_attn)
        self.linear1, self.linear2, self.norm1, self.norm2 = whole.linear1, whole.linear2, whole.norm1, whole.norm2
        self.activation, self.norm_first = whole.activation, whole.norm_first
        self.whole = whole

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        if src_mask is not None or src_key_padding_mask is not None or is_causal:
            found: Tensor = self.whole(src, src_mask, src_key_padding_mask, is_causal)
            return found
        if self.norm_first:
            x = src + self._attend(self.norm1(src))
            return x + self._feed(self.norm2(x))
        x = self.norm1(src + self._attend(src))
        y: Tensor = self.norm2(x + self._feed(x))
        return y

    def _attend(self, x: Tensor) -> Tensor:
        y: Tensor = self.self_attn(x, x, x, need_weights=False)[0]
        return y

    def _feed(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.activation(self.linear1(x)))
        return y


class OpenedEncoder(nn.Module):
    """`nn.TransformerEncoder` without masks."""

    def __init__(self, whole: nn.TransformerEncoder) -> None:
        super().__init__()
        self.layers, self.norm = nn.ModuleList(whole.layers), whole.norm
        open_layers(self.layers)
        self.whole = whole

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        if mask is not None or src_key_padding_mask is not None or is_causal:
            found: Tensor = self.whole(src, mask, src_key_padding_mask, is_causal)
            return found
        for layer in self.layers:
            src = layer(src)
        return src if self.norm is None else self.norm(src)


@fx.wrap
def window_mask(height: int, width: int, window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """(windows, 1, L, L): -100 between pixels that a shift has brought into one window from apart, 0 otherwise.

    Liu et al., arXiv 2103.14030, section 3.2, figure 4.
    """
    region = torch.zeros(height, width)
    for axis, (size, wide, moved) in enumerate(zip((height, width), window, shift, strict=True)):
        place = torch.arange(size)
        part = (place >= size - wide).long() + (place >= size - moved).long() if moved else torch.zeros(size).long()
        region = region * 3 + (part[:, None] if axis == 0 else part)
    tiles = region.view(height // window[0], window[0], width // window[1], window[1]).transpose(1, 2).flatten(2)
    tiles = tiles.flatten(0, 1)
    return torch.where(tiles[:, None] == tiles[:, :, None], 0.0, -100.0).unsqueeze(1)


class OpenedWindowAttention(nn.Module):
    """torchvision's `ShiftedWindowAttention` (Swin): images (N, H, W, C), attention inside shifted windows."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.qkv, self.proj = whole.qkv, whole.proj
        self.window, self.shift, self.heads = tuple(whole.window_size), tuple(whole.shift_size), whole.num_heads
        with torch.no_grad():
            self.register_buffer("bias", whole.get_relative_position_bias().detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        channels, (tall, wide) = self.proj.in_features, self.window
        size, height, width = x.size(0), x.size(1), x.size(2)
        below, right = (tall - height % tall) % tall, (wide - width % wide) % wide
        x = F.pad(x, (0, 0, 0, right, 0, below))
        rows, columns = (height + below) // tall, (width + right) // wide
        # No shift where one window holds everything; a comparison counts as 0 or 1.
        down, across = self.shift[0] * (rows > 1), self.shift[1] * (columns > 1)
        if any(self.shift):
            x = torch.roll(x, (-down, -across), (1, 2))
        x = x.reshape(size, rows, tall, columns, wide, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(size * rows * columns, tall * wide, channels)
        parts = self.qkv(x).reshape(-1, tall * wide, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        scores = (parts[0] @ parts[1].transpose(-2, -1)) * (channels // self.heads) ** -0.5 + self.bias
        if any(self.shift):
            mask = window_mask(rows * tall, columns * wide, self.window, (down, across))
            scores = scores.reshape(size, rows * columns, self.heads, tall * wide, tall * wide) + mask
            scores = scores.reshape(-1, self.heads, tall * wide, tall * wide)
        y = F.softmax(scores, -1) @ parts[2]
        y = self.proj(y.transpose(1, 2).reshape(-1, tall * wide, channels))
        y = y.reshape(size, rows, columns, tall, wide, channels).permute(0, 1, 3, 2, 4, 5)
        y = y.reshape(size, rows * tall, columns * wide, channels)
        if any(self.shift):
            y = torch.roll(y, (down, across), (1, 2))
        found: Tensor = y[:, :height, :width, :].contiguous()
        return found


class OpenedPatchMerging(nn.Module):
    """torchvision's `PatchMerging` (Swin): 2 x 2 pixels side by side, normalised and reduced."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.norm, self.reduction = whole.norm, whole.reduction

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.size(2) % 2, 0, x.size(1) % 2))
        corners = [x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        y: Tensor = self.reduction(self.norm(torch.cat(corners, -1)))
        return y


_OPENED: Mapping[str, Callable[[Any], nn.Module]] = {
    "torch.nn.modules.activation.MultiheadAttention": OpenedAttention,
    "torch.nn.modules.transformer.TransformerEncoderLayer": OpenedEncoderLayer,
    "torch.nn.modules.transformer.TransformerEncoder": OpenedEncoder,
    "torchvision.models.swin_transformer.ShiftedWindowAttention": OpenedWindowAttention,
    "torchvision.models.swin_transformer.PatchMerging": OpenedPatchMerging,
}
"""By qualified name: torchvision takes long to import, and whoever uses it has imported it."""
