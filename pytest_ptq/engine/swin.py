"""torchvision's Swin layers, opened: attention inside shifted windows as linear layers and arithmetic."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


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
