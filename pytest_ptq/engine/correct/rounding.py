"""AdaRound: each weight is rounded up or down as the layer's output asks for, not to the nearest integer.

For every layer, in graph order and on the inputs that the int8 network so far gives it, V is found that minimises

    || W X - s clamp(floor(W / s) + h(V)) X' ||^2 + lambda sum(1 - |2 h(V) - 1|^beta)

where h(V) = clamp(1.2 sigmoid(V) - 0.1, 0, 1), and beta falls while the search goes on, so that h(V) ends at 0 or 1
(Nagel et al., arXiv 2004.10568, equations 21 to 25). The squared error is a quadratic form in the weights: it is
computed from X'X'^T and X'Y^T, gathered once from sampled positions of all images, so that every step sees all of
them and the search is deterministic. The activation function of equation 25 is left out for that.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pytest_ptq.engine.affine import WEIGHT_MAX
from pytest_ptq.engine.blocks import Block, ConvBlock, LinearBlock
from pytest_ptq.engine.calibrate import Progress
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.correct.lockstep import Arguments, lockstep
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of, put_layer, stage_copy
from pytest_ptq.engine.kernels import dequantize
from pytest_ptq.engine.modules import QuantizedWeighted

STEPS = 400
POSITIONS = 4096
"""Output positions a layer that are sampled of all images together."""
RATE, REGULARIZER, BETA = 0.02, 0.1, (20.0, 2.0)
LOW, HIGH = -0.1, 1.1
"""gamma and zeta of equation 23."""
SEED = 0


@dataclass(frozen=True)
class Rounded:
    """New int8 weights by layer, and how many layers were searched of all that could be."""

    weights: Mapping[str, Tensor]
    searched: int
    layers: int


def adaptive_rounding(
    fused: FusedModule,
    quantized: QuantizedModule,
    batches: Sequence[Tensor],
    seconds: float,
    progress: Progress | None = None,
) -> Rounded:
    """Better roundings of the weights of `quantized`, none of which errs more than the nearest on these batches.

    Args:
        fused: the float model; its outputs are what each layer is brought near to.
        quantized: the int8 model made from it, not changed.
        batches: calibration inputs.
        seconds: after which all further layers keep the nearest rounding. Where it does not run out, the result is
            the same every time.
        progress: called as progress(layers, title, total); must yield the layers.
    """
    deadline = time.monotonic() + seconds
    share = max(1, POSITIONS // sum(map(len, batches)))
    targets = _targets(fused, batches, share)
    bar = progress(targets, "adaptive rounding", len(targets)) if progress else iter(targets)
    working = stage_copy(quantized, QuantizedModule)
    found: dict[str, Tensor] = {}
    searched = 0

    def search(node: fx.Node, read: Arguments) -> None:
        nonlocal searched
        layer, path = layer_of(working, node), str(node.target)
        if not isinstance(layer, QuantizedWeighted) or path not in targets:
            return
        next(bar, None)
        if time.monotonic() >= deadline:
            return
        searched += 1
        block = fused.get_submodule(path)
        assert isinstance(block, Block)
        generator = torch.Generator().manual_seed(SEED)
        columns = torch.cat([_sample(block, dequantize(args[0], layer.x), share, generator) for args in read])
        weight = _round(block, layer, columns, targets[path], deadline)
        if weight is not None:
            found[path] = weight
            put_layer(working, path, _with_weight(layer, weight))

    lockstep(working, batches, search)
    next(bar, None)
    return Rounded(found, searched, len(targets))


def with_weights(quantized: QuantizedModule, weights: Mapping[str, Tensor]) -> QuantizedModule:
    """The int8 model with other int8 weights. `quantized` is not changed."""
    better = copy.deepcopy(quantized)
    for path, weight in weights.items():
        layer = better.get_submodule(path)
        assert isinstance(layer, QuantizedWeighted)
        put_layer(better, path, _with_weight(layer, weight))
    return better


def _with_weight(layer: QuantizedWeighted, weight: Tensor) -> QuantizedWeighted:
    twin = copy.copy(layer)
    twin.__dict__["_buffers"] = {**layer._buffers, "weight": weight}
    twin._prepare()
    return twin


class _Targets(fx.Interpreter):
    """Runs a fused graph and gathers what blocks compute, before bias and activation, at sampled positions."""

    def __init__(self, fused: FusedModule, share: int) -> None:
        super().__init__(fused)
        self.share = share
        self.generators: dict[str, torch.Generator] = {}
        self.parts: dict[str, list[Tensor]] = {}

    def run_node(self, n: fx.Node) -> object:
        block = layer_of(self.module, n)  # type: ignore[arg-type]
        if type(block) in (ConvBlock, LinearBlock):
            assert isinstance(block, Block)
            path = str(n.target)
            generator = self.generators.setdefault(path, torch.Generator().manual_seed(SEED))
            columns = _sample(block, self.fetch_args_kwargs_from_env(n)[0][0], self.share, generator)
            rows = torch.einsum("ngd,gkd->ngk", columns, _grouped(block.weight, block))
            self.parts.setdefault(path, []).append(rows)
        return super().run_node(n)


@torch.no_grad()
def _targets(fused: FusedModule, batches: Sequence[Tensor], share: int) -> dict[str, Tensor]:
    runner = _Targets(fused, share)
    for x in batches:
        runner.run(x)
    return {path: torch.cat(parts) for path, parts in runner.parts.items()}


def _sample(block: Block, x: Tensor, share: int, generator: torch.Generator) -> Tensor:
    """What the weights of a block meet at some positions of its output: (positions, groups, weights a channel)."""
    if not isinstance(block, ConvBlock):
        rows = x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1)
        return torch.cat([r[_choose(len(r), share, generator)] for r in rows]).unsqueeze(1)
    found = []
    for image in torch.split(x, 1):
        patches = F.unfold(image, block.weight.shape[2:], block.dilation, block.padding, block.stride)[0]
        chosen = patches[:, _choose(patches.shape[1], share, generator)]
        found.append(chosen.T.reshape(chosen.shape[1], block.groups, -1))
    return torch.cat(found)


def _choose(count: int, share: int, generator: torch.Generator) -> Tensor:
    return torch.randint(count, (min(share, count),), generator=generator)


def _grouped(weight: Tensor, block: Block) -> Tensor:
    """Weight (K, ...) as (groups, K / groups, weights a channel)."""
    groups = block.groups if isinstance(block, ConvBlock) else 1
    return weight.detach().float().reshape(groups, weight.shape[0] // groups, -1)


def _round(
    block: Block, layer: QuantizedWeighted, columns: Tensor, target: Tensor, deadline: float
) -> Tensor | None:  # fmt: skip
    """int8 weights that err less than those of `layer`, or None."""
    count = len(columns)
    gram = torch.einsum("ngd,nge->gde", columns, columns) / count
    cross = torch.einsum("ngk,ngd->gkd", target, columns) / count
    steps = _grouped(layer.scales.view(-1, 1).expand(-1, layer.weight[0].numel()), block)
    exact = _grouped(block.weight, block) / steps
    floor = exact.floor().clamp(-WEIGHT_MAX, WEIGHT_MAX)

    def error(integers: Tensor) -> Tensor:
        """Squared error for each channel (groups, K / groups), but for what does not depend on the rounding."""
        weight = integers * steps
        return ((weight @ gram - 2 * cross) * weight).sum(-1)

    nearest = _grouped(layer.weight, block)
    searched = (floor + _search(exact - floor, floor, steps, gram, cross, deadline)).clamp(-WEIGHT_MAX, WEIGHT_MAX)
    better = error(searched) < error(nearest)
    if not bool(better.any()):
        return None
    return torch.where(better.unsqueeze(-1), searched, nearest).reshape(layer.weight.shape).to(torch.int8)


@torch.no_grad()
def _search(up: Tensor, floor: Tensor, steps: Tensor, gram: Tensor, cross: Tensor, deadline: float) -> Tensor:
    """Which weights are rounded up (1) or down (0), by gradient descent with Adam (arXiv 1412.6980)."""
    # V starts where h(V) gives back the weight itself.
    v = torch.logit(((up - LOW) / (HIGH - LOW)).clamp(1e-4, 1 - 1e-4))
    # Errors in units of the layer's mean squared error at half a step, so that one regularizer serves every layer.
    unit = (steps.square() * torch.diagonal(gram, dim1=-2, dim2=-1).unsqueeze(1)).mean().clamp_min(1e-30)
    mean, square = torch.zeros_like(v), torch.zeros_like(v)
    for step in range(1, STEPS + 1):
        if time.monotonic() >= deadline:
            break
        sigmoid = torch.sigmoid(v)
        h = (HIGH - LOW) * sigmoid + LOW
        inside = (h > 0) & (h < 1)
        h = h.clamp(0, 1)
        gradient = 2 * (((floor + h) * steps) @ gram - cross) * steps / unit
        done = step / STEPS
        if done > 0.2:
            beta = BETA[1] + (BETA[0] - BETA[1]) * (1 - (done - 0.2) / 0.8)
            centred = 2 * h - 1
            gradient -= REGULARIZER * 2 * beta * centred.abs() ** (beta - 1) * centred.sign()
        gradient *= inside * (HIGH - LOW) * sigmoid * (1 - sigmoid)
        mean.mul_(0.9).add_(gradient, alpha=0.1)
        square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        v -= RATE * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    return (torch.sigmoid(v) * (HIGH - LOW) + LOW >= 0.5).float()
