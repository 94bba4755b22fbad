"""Cross-layer equalization: weights of neighbouring layers that were far apart become equally large.

Each channel between two layers is divided by s_i = sqrt(r1_i r2_i) / r2_i, where r1_i and r2_i are the largest
magnitudes of the weights that make it and of those that read it; both become sqrt(r1_i r2_i) (Nagel et al.,
arXiv 1906.04721, section 4.1, equation 11). Pairs share layers, so that one pass undoes a part of what the last
one did: they are gone through until nothing moves, as the paper does. No data are needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_ptq.engine.blocks import Block
from pytest_ptq.engine.correct.foldable import Fold, divide_outputs, folds, input_extremes, multiply_inputs
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import stage_copy

PASSES = 20
SETTLED = 1e-3
"""The pairs are even enough when no factor differs from 1 by more."""
LARGEST = 1e4
"""Factors stay within 1 / LARGEST .. LARGEST: float32 has to hold products of several."""


def equalize(fused: FusedModule) -> tuple[FusedModule, int]:
    """The same function with equalized weights, and how many pairs of layers were. `fused` is not changed.

    Pairs of a convolution or linear layer and the only one that reads it, also through ReLU, ReLU6 (whose ceiling
    becomes one a channel), pooling and depthwise convolutions.
    """
    better = stage_copy(fused, FusedModule)
    pairs = [f for f in folds(fused) if len(f.consumers) == 1 and isinstance(fused.get_submodule(f.producer), Block)]
    for _ in range(PASSES):
        moved = max((_equalize_pair(better, pair) for pair in pairs), default=0.0)
        if moved <= SETTLED:
            break
    return better, len(pairs)


def _equalize_pair(better: FusedModule, pair: Fold) -> float:
    """Equalize two layers; how far the largest factor was from 1."""
    first, second = better.get_submodule(pair.producer), better.get_submodule(pair.consumers[0])
    assert isinstance(first, Block)
    assert isinstance(second, Block)
    factors = pair_factors(first, second)
    divide_outputs(first, factors)
    multiply_inputs(second, factors)
    return float((factors - 1).abs().max())


def pair_factors(first: Block, second: Block) -> Tensor:
    """s of equation 11: float64 (channels,); 1 for a channel that nothing makes or nothing reads."""
    made = first.weight.detach().double().abs().flatten(1).amax(1)
    read = input_extremes(second).double()
    alive = (made > 0) & (read > 0)
    factors = torch.sqrt(made / read.clamp_min(1e-30))
    return torch.where(alive, factors.clamp(1 / LARGEST, LARGEST), 1.0)
