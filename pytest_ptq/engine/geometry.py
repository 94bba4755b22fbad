"""Geometries of a convolution that oneDNN (3.x, as in torch 2.15) computes wrongly.

Found by holding 300,000 random convolutions against the integer reference: with the instruction sets of AVX2,
AVX512, AVX512-VNNI and AVX2-VNNI, and 120,000 over volumes with AVX512-VNNI, every wrong result fell into one of three
classes, and all are rare in models:

- a window that lies in the padding alone, when the input's zero point is not 0 (a 1 x 1 kernel with padding, or taps
  so far apart that an image fits in between): what corrects for the zero point is then read from elsewhere;
- one input channel a group, a volume one voxel deep, and padding before and behind it; not in fp32;
- one input channel a group, a stride of 1 down and more across, and an output that is one column wide; in fp32 too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence


def may_be_miscomputed(
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    zero_point: int,
) -> bool:
    """False when no size of image or volume makes this convolution one of the wrong ones."""
    _, per_group, *kernel = weight_shape
    dimensions = zip(kernel, padding, dilation, strict=True)
    padded = zero_point != 0 and any(p > d * (k - 1) or (p > 0 and d > 1) for k, p, d in dimensions)
    return padded or (per_group == 1 and (padding[0] > 0 if len(kernel) == 3 else stride[0] == 1 and stride[1] > 1))


@functools.lru_cache(maxsize=1024)
def is_miscomputed(
    image: Sequence[int],
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    zero_point: int,
) -> bool:
    """Whether oneDNN is wrong about this convolution of an image of height and width `image`, or of a volume."""
    _, per_group, *kernel = weight_shape
    dimensions = list(zip(image, kernel, stride, padding, dilation, strict=True))
    if zero_point != 0 and any(_reads_padding_only(*dimension) for dimension in dimensions):
        return True
    if len(kernel) == 3:
        return per_group == 1 and image[0] == 1 and padding[0] > 0
    return per_group == 1 and stride[0] == 1 and stride[1] > 1 and windows(*dimensions[1]) == 1


def windows(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Number of windows along one dimension."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _reads_padding_only(size: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    starts = (i * stride - padding for i in range(windows(size, kernel, stride, padding, dilation)))
    return any(not any(0 <= start + tap * dilation < size for tap in range(kernel)) for start in starts)
