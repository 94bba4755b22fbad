"""SmoothQuant: what is hard to quantize in an activation moves into the weights that read it.

One scale serves a whole activation, and channels that are small beside the largest keep few of its 255 steps. Each
channel is divided by s_j = max|X_j|^alpha / max|W_j|^(1 - alpha) (Xiao et al., arXiv 2211.10438, equation 4), which
is taken into the layer norm, convolution or linear layer before it, and multiplied into the weights behind it.

Which alpha serves best differs from tensor to tensor, and for some none does: the error that quantization makes in
the outputs of the layers behind is measured for each (as Lin et al., arXiv 2306.00978, equation 5, do for weights),
and a tensor stays as it is where no alpha makes it smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pytest_ptq.engine.affine import choose_qparams, quantize_weight, weight_scales
from pytest_ptq.engine.blocks import Block, ConvBlock
from pytest_ptq.engine.correct.foldable import Fold, divide_outputs, folds, input_extremes, multiply_inputs
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import stage_copy

SMALLEST = 2.0**-5
"""No channel is made more than this much larger beside the largest: what was not seen in calibration would be cut."""
IMAGES = 32
"""How many images errors are measured on: every alpha costs a convolution for each."""
MARGIN = 0.95
"""The part of its error that smoothing has to leave at most to be worth anything: images differ."""


@dataclass(frozen=True, eq=False)
class Channels:
    """The smallest and the largest value of each channel, zero included: float64 (channels,)."""

    low: Tensor
    high: Tensor

    def magnitude(self) -> Tensor:
        return torch.maximum(-self.low, self.high)


class _Extremes(fx.Interpreter):
    """Runs a fused graph and gathers the extremes of each channel of some tensors."""

    def __init__(self, fused: FusedModule, wanted: Mapping[str, bool]) -> None:
        super().__init__(fused)
        self.wanted = wanted
        self.seen: dict[str, Channels] = {}

    def run_node(self, n: fx.Node) -> object:
        y = super().run_node(n)
        if n.name in self.wanted and isinstance(y, Tensor):
            rows = (y.movedim(1, -1) if self.wanted[n.name] else y).flatten(0, -2)
            low, high = rows.amin(0).double().clamp_max(0), rows.amax(0).double().clamp_min(0)
            known = self.seen.get(n.name, Channels(low, high))
            self.seen[n.name] = Channels(torch.minimum(low, known.low), torch.maximum(high, known.high))
        return y


@torch.no_grad()
def channel_extremes(fused: FusedModule, batches: Iterable[Tensor]) -> Mapping[str, Channels]:
    """The extremes of each channel of every tensor that can be smoothed."""
    image = {fold.tensor: isinstance(fused.get_submodule(fold.producer), ConvBlock) for fold in folds(fused)}
    runner = _Extremes(fused, image)
    for x in batches:
        runner.run(x)
    return runner.seen


@torch.no_grad()
def choose_factors(
    fused: FusedModule, extremes: Mapping[str, Channels], alphas: Sequence[float], batches: Iterable[Tensor],
    per_channel: bool = True,
) -> Mapping[str, Tensor]:  # fmt: skip
    """The factors of every tensor that is better off smoothed, by the tensor's name: float64 (channels,).

    Args:
        fused: the float model.
        extremes: from `channel_extremes`.
        alphas: that are tried for each tensor; 0 moves nothing but what the weights want, 1 makes all channels equal.
        batches: inputs that the errors are measured on.
        per_channel: weights have one scale an output channel.
    """
    trials = {}
    for fold in folds(fused):
        seen = extremes[fold.tensor]
        plain = torch.ones_like(seen.low)
        tried = [plain, *(_factors(fused, fold, seen.magnitude(), alpha) for alpha in alphas)]
        trials[fold] = [(s, float((seen.low / s).min()), float((seen.high / s).max())) for s in tried]
    runner = _Errors(fused, trials, per_channel)
    for x in batches:
        runner.run(x)
    chosen = {}
    for fold, errors in runner.errors.items():
        best = min(range(len(errors)), key=errors.__getitem__)
        if best and errors[best] < MARGIN * errors[0]:
            chosen[fold.tensor] = trials[fold][best][0]
    return chosen


def smooth(fused: FusedModule, factors: Mapping[str, Tensor]) -> FusedModule:
    """The same function with the channels of some tensors divided by factors. `fused` is not changed."""
    better = stage_copy(fused, FusedModule)
    for fold in folds(fused):
        if fold.tensor in factors:
            divide_outputs(better.get_submodule(fold.producer), factors[fold.tensor])
            for path in fold.consumers:
                block = better.get_submodule(path)
                assert isinstance(block, Block)
                multiply_inputs(block, factors[fold.tensor])
    return better


class _Errors(fx.Interpreter):
    """Runs a fused graph and adds up the errors in what blocks make of quantized inputs, for each trial of factors."""

    def __init__(
        self, fused: FusedModule, trials: Mapping[Fold, Sequence[tuple[Tensor, float, float]]], per_channel: bool
    ) -> None:
        super().__init__(fused)
        self.trials, self.per_channel = trials, per_channel
        self.errors = {fold: [0.0] * len(tried) for fold, tried in trials.items()}
        self.readers = {path: fold for fold in trials for path in fold.consumers}
        self.variants = {path: self._variants(path, trials[fold]) for path, fold in self.readers.items()}

    def _variants(self, path: str, tried: Sequence[tuple[Tensor, float, float]]) -> list[Block]:
        found = []
        for factors, _, _ in tried:
            block = stage_copy(self.module, FusedModule).get_submodule(path)  # type: ignore[arg-type]
            assert isinstance(block, Block)
            multiply_inputs(block, factors)
            scales = weight_scales(block.weight, self.per_channel)
            steps = scales.view(-1, *[1] * (block.weight.ndim - 1))
            block.weight = quantize_weight(block.weight, scales).to(block.weight.dtype) * steps
            found.append(block)
        return found

    def run_node(self, n: fx.Node) -> object:
        y = super().run_node(n)
        fold = self.readers.get(str(n.target)) if n.op == "call_module" else None
        if fold is not None:
            block = self.fetch_attr(str(n.target))
            (x, *_), _ = self.fetch_args_kwargs_from_env(n)
            expected = block.before_activation(x)
            for i, (factors, low, high) in enumerate(self.trials[fold]):
                q = choose_qparams(low, high)
                shape = (-1, *[1] * (x.ndim - 2)) if isinstance(block, ConvBlock) else (-1,)
                steps = torch.round(x / (factors.float() * q.scale).view(shape)) + q.zero_point
                read = (torch.clamp(steps, q.quant_min, q.quant_max) - q.zero_point) * q.scale
                found = self.variants[str(n.target)][i].before_activation(read)
                self.errors[fold][i] += float(torch.linalg.vector_norm(found - expected)) ** 2
        return y


def _factors(fused: FusedModule, fold: Fold, activations: Tensor, alpha: float) -> Tensor:
    """Factors of at most 1, of which the largest is 1. What is dead keeps its size."""
    readers = [fused.get_submodule(path) for path in fold.consumers]
    weights = torch.stack([input_extremes(b).double() for b in readers if isinstance(b, Block)]).amax(0)
    alive = (activations > 0) & (weights > 0)
    factors = torch.where(alive, activations**alpha / weights.clamp_min(1e-30) ** (1 - alpha), 0)
    largest = factors.max()
    if not largest > 0:
        return torch.ones_like(factors)
    return torch.where(alive, (factors / largest).clamp_min(SMALLEST), 1.0)
