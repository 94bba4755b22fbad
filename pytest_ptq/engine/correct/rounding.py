"""AdaRound: each weight is rounded up or down as the layer's output asks for, not to the nearest integer.

For every layer, in graph order and on the inputs that the int8 network so far gives it, V is found that minimises

    || W X + R - s clamp(floor(W / s) + h(V)) X' - R' ||^2 + lambda sum(1 - |2 h(V) - 1|^beta)

where h(V) = clamp(1.2 sigmoid(V) - 0.1, 0, 1), and beta falls while the search goes on, so that h(V) ends at 0 or 1
(Nagel et al., arXiv 2004.10568, equations 21 to 25). R is a residual that the layer adds, and R' what the int8 network
has of it: what went wrong on one way is made good on the other. Mean errors are left to the bias, which takes out what
remains of them (Nagel et al., arXiv 1906.04721, equation 17), so that the weights have deviations alone to look after.

The squared error is a quadratic form in the weights: it is computed from X'X'^T and X'Y^T, gathered once from sampled
positions of all images, so that every step sees all of them and the search is deterministic. The activation function
of equation 25 is left out for that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pytest_ptq.engine.affine import WEIGHT_MAX
from pytest_ptq.engine.blocks import Block
from pytest_ptq.engine.calibrate import Progress
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.correct.exchange import Tensors
from pytest_ptq.engine.correct.lockstep import Arguments, lockstep
from pytest_ptq.engine.correct.sampling import Sampler, float_targets, grouped
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of, put_layer, stage_copy
from pytest_ptq.engine.kernels import dequantize
from pytest_ptq.engine.modules import QuantizedConv2d, QuantizedWeighted

STEPS = 400
POSITIONS = 4096
"""Output positions a layer that are sampled of all images together."""
RATE, REGULARIZER, BETA = 0.02, 0.1, (20.0, 2.0)
LOW, HIGH = -0.1, 1.1
"""gamma and zeta of equation 23."""


@dataclass(frozen=True)
class Rounded:
    """New weights and biases by layer, and how many layers were searched of all that could be."""

    tensors: Mapping[str, Tensors]
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

    Biases follow: they take out the mean error of every channel that is left.

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
    targets = float_targets(fused, batches, share)
    bar = progress(targets, "adaptive rounding", len(targets)) if progress else iter(targets)
    working = stage_copy(quantized, QuantizedModule)
    found: dict[str, Tensors] = {}
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
        columns, added = _read(Sampler(block, share), layer, read)
        target = targets[path] if added is None else targets[path] - added
        found[path] = _solve(block, layer, columns, target, deadline)
        put_layer(working, path, layer.with_tensors(**found[path]))

    lockstep(working, batches, search)
    next(bar, None)
    return Rounded(found, searched, len(targets))


def _read(sampler: Sampler, layer: QuantizedWeighted, read: Arguments) -> tuple[Tensor, Tensor | None]:
    """What the int8 network so far gives a layer at sampled positions, and what it gives it to add."""
    columns, added = [], []
    for x, *others in read:
        real = dequantize(x, layer.x)
        columns.append(sampler.columns(real))
        if others and isinstance(layer, QuantizedConv2d) and layer.residual is not None:
            added.append(sampler.residual(real, dequantize(others[0], layer.residual)))
    return torch.cat(columns), torch.cat(added) if added else None


def _solve(block: Block, layer: QuantizedWeighted, columns: Tensor, target: Tensor, deadline: float) -> Tensors:
    """int8 weights of which no channel errs more than that of `layer`, and the bias that belongs to them."""
    count, mean_read, mean_target = len(columns), columns.mean(0), target.mean(0)
    columns, target = columns - mean_read, target - mean_target
    gram = torch.einsum("ngd,nge->gde", columns, columns) / count
    cross = torch.einsum("ngk,ngd->gkd", target, columns) / count
    steps = grouped(layer.scales.view(-1, 1).expand(-1, layer.weight[0].numel()), block)
    exact = grouped(block.weight, block) / steps
    floor = exact.floor().clamp(-WEIGHT_MAX, WEIGHT_MAX)

    def error(integers: Tensor) -> Tensor:
        """Squared error for each channel (groups, K / groups), but for what does not depend on the rounding."""
        weight = integers * steps
        return ((weight @ gram - 2 * cross) * weight).sum(-1)

    nearest = grouped(layer.weight, block)
    searched = (floor + _search(exact - floor, floor, steps, gram, cross, deadline)).clamp(-WEIGHT_MAX, WEIGHT_MAX)
    chosen = torch.where((error(searched) < error(nearest)).unsqueeze(-1), searched, nearest)
    shift = (mean_target - torch.einsum("gd,gkd->gk", mean_read, chosen * steps)).reshape(-1)
    bias = shift if block.bias is None else block.bias.detach().float() + shift
    return {"weight": chosen.reshape(layer.weight.shape).to(torch.int8), "bias": bias}


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
