"""What layers read and compute at sampled positions of their outputs: least-squares problems in matrices.

A convolution is a linear layer at every position. Of all positions of all images a fixed number is drawn, the same ones
for the float model and for the int8 model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pytest_ptq.engine.blocks import Block, ConvBlock, LinearBlock, conv_output_shape
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of

SEED = 0


class Sampler:
    """Draws positions of one layer's outputs, batch after batch, always the same ones.

    Args:
        block: the float layer.
        share: how many positions of each image.
    """

    def __init__(self, block: Block, share: int) -> None:
        self._block, self._share = block, share
        self._generator = torch.Generator().manual_seed(SEED)
        self._drawn: list[Tensor] = []

    def columns(self, x: Tensor) -> Tensor:
        """What the weights meet at newly drawn positions: (positions, groups, weights a channel)."""
        block = self._block
        if not isinstance(block, ConvBlock):
            rows = x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1)
            self._drawn = [self._draw(rows.shape[1]) for _ in rows]
            return torch.cat([r[drawn] for r, drawn in zip(rows, self._drawn, strict=True)]).unsqueeze(1)
        found, self._drawn = [], []
        for image in torch.split(x, 1):
            patches = F.unfold(image, block.weight.shape[2:], block.dilation, block.padding, block.stride)[0]
            self._drawn.append(self._draw(patches.shape[1]))
            chosen = patches[:, self._drawn[-1]]
            found.append(chosen.T.reshape(chosen.shape[1], block.groups, -1))
        return torch.cat(found)

    def residual(self, x: Tensor, added: Tensor) -> Tensor:
        """What is added to the sums of a convolution of `x` at those positions: (positions, groups, K / groups)."""
        block = self._block
        assert isinstance(block, ConvBlock)
        whole = added.expand(conv_output_shape(x, block.weight, block.stride, block.padding, block.dilation))
        rows = [image.flatten(1)[:, drawn].T for image, drawn in zip(whole, self._drawn, strict=True)]
        return torch.cat(rows).view(sum(map(len, rows)), block.groups, -1)

    def _draw(self, count: int) -> Tensor:
        return torch.randint(count, (min(self._share, count),), generator=self._generator)


def grouped(weight: Tensor, block: Block) -> Tensor:
    """Weight (K, ...) as (groups, K / groups, weights a channel)."""
    groups = block.groups if isinstance(block, ConvBlock) else 1
    return weight.detach().float().reshape(groups, weight.shape[0] // groups, -1)


class _Targets(fx.Interpreter):
    """Runs a fused graph and gathers what blocks compute without their biases, before activation."""

    def __init__(self, fused: FusedModule, share: int) -> None:
        super().__init__(fused)
        self.share = share
        self.samplers: dict[str, Sampler] = {}
        self.parts: dict[str, list[Tensor]] = {}

    def run_node(self, n: fx.Node) -> object:
        block = layer_of(self.module, n)  # type: ignore[arg-type]
        if type(block) in (ConvBlock, LinearBlock):
            assert isinstance(block, Block)
            path, (args, _) = str(n.target), self.fetch_args_kwargs_from_env(n)
            sampler = self.samplers.setdefault(path, Sampler(block, self.share))
            rows = torch.einsum("ngd,gkd->ngk", sampler.columns(args[0]), grouped(block.weight, block))
            if block.adds:
                rows += sampler.residual(args[0], args[1])
            self.parts.setdefault(path, []).append(rows)
        return super().run_node(n)


@torch.no_grad()
def float_targets(fused: FusedModule, batches: Sequence[Tensor], share: int) -> dict[str, Tensor]:
    """By layer, its sums with the residual and without the bias: (positions, groups, K / groups)."""
    runner = _Targets(fused, share)
    for x in batches:
        runner.run(x)
    return {path: torch.cat(parts) for path, parts in runner.parts.items()}
