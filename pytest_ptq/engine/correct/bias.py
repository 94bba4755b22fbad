"""Bias correction, the full and sequential kind.

Quantization shifts the mean of a layer's output, and a shift is not averaged out by what follows: it adds up from
layer to layer. Layer by layer in graph order, with the int8 network so far as input, the difference of the outputs'
means for each channel is taken into the bias (Nagel et al., arXiv 1906.04721, section 4.2, equation 17, with
empirical means as in its appendix D). The fast kind, which compares each layer on fp32 inputs, misses what the layers
before it have shifted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from pytest_ptq.engine.blocks import Block
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.correct import compare
from pytest_ptq.engine.correct.exchange import with_tensors
from pytest_ptq.engine.correct.lockstep import Arguments, lockstep
from pytest_ptq.engine.correct.means import OutputMean
from pytest_ptq.engine.forward import StageRunner
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of, put_layer, stage_copy
from pytest_ptq.engine.modules import QuantizedWeighted

FEWEST, MOST = 16, 32
PIXELS = 2**19
"""How many images are looked at, and how many pixels they have together between these bounds. Both networks see the
same ones, so that what images have of their own cancels in the difference, and a mean is one over positions: more of
them change nothing (`python -m benchmarks bias`, docs/engine.md)."""


@dataclass(frozen=True)
class Targets:
    """What the float model does with some batches.

    Args:
        means: of every output channel before activation, float64 (K,), by the path of each block.
        outputs: of each batch.
    """

    means: Mapping[str, Tensor]
    outputs: Sequence[Any]


@dataclass(frozen=True)
class Correction:
    """Shifts for the biases of some layers by their paths, float32 (K,), and whether they help.

    Args:
        shifts: the mean of what either half of the images gives.
        before_db, after_db: SQNR of the outputs without and with it: each half is judged by what the other one gave.
    """

    shifts: Mapping[str, Tensor]
    before_db: float
    after_db: float


def enough(batches: Iterable[Any]) -> list[Tensor]:
    """The first of `batches` that are enough to correct by. Raises DataError for one that cannot be used."""
    images = compare.take(batches, MOST)
    pixels = max(images[0].shape[2:].numel(), 1) if images else 1
    return compare.take(images, min(MOST, max(FEWEST, PIXELS // pixels)))


@torch.no_grad()
def correction(fused: FusedModule, quantized: QuantizedModule, batches: Sequence[Tensor]) -> Correction:
    """The correction of `quantized` by some images, and what it is worth on those of them that did not make it.

    Args:
        fused: the float model; its outputs are what the int8 model is brought back to.
        quantized: the int8 model made from it, not changed.
        batches: calibration inputs. The int8 values of half of them that are still to be read are in memory at once.
    """
    halves, runner = compare.halves(batches), Means(fused)
    sides = [runner.targets(half) for half in halves]
    before, after = compare.Powers(), compare.Powers()
    found: list[Mapping[str, Tensor]] = []
    for by, on in ((0, 1), (1, 0)):
        shifts = bias_shifts(sides[by], quantized, halves[by])
        corrected = with_shifts(quantized, shifts)
        for expected, x in zip(sides[on].outputs, halves[on], strict=True):
            before.add(expected, quantized(x))
            after.add(expected, corrected(x))
        found.append(shifts)
    one, two = found
    return Correction({p: (one[p] + two[p]) / 2 for p in one}, before.sqnr_db(), after.sqnr_db())


def bias_shifts(expected: Targets, quantized: QuantizedModule, batches: Sequence[Tensor]) -> Mapping[str, Tensor]:
    """What has to be added to the bias of each int8 layer, by its path: float32 (out_channels,).

    Args:
        expected: what the float model does with `batches`.
        quantized: the int8 model made from it, not changed.
        batches: calibration inputs. The int8 values of all of them that are still to be read are in memory at once.
    """
    working = stage_copy(quantized, QuantizedModule)
    shifts: dict[str, Tensor] = {}

    def correct(node: fx.Node, read: Arguments) -> None:
        layer, path = layer_of(working, node), str(node.target)
        if not isinstance(layer, QuantizedWeighted) or path not in expected.means:
            return
        mean = OutputMean(layer)
        for args in read:
            # A residual that has shifted is corrected as well: the sum is what the activation reads.
            mean.add(*args)
        shifts[path] = (expected.means[path] - mean.value()).float()
        put_layer(working, path, layer.with_tensors(bias=_shifted(layer, shifts[path])))

    lockstep(working, batches, correct)
    return shifts


def with_shifts(quantized: QuantizedModule, shifts: Mapping[str, Tensor]) -> QuantizedModule:
    """The int8 model with `shifts` added to its biases. `quantized` is not changed."""
    return with_tensors(quantized, {p: {"bias": _shifted(_weighted(quantized, p), s)} for p, s in shifts.items()})


def _weighted(quantized: QuantizedModule, path: str) -> QuantizedWeighted:
    layer = quantized.get_submodule(path)
    assert isinstance(layer, QuantizedWeighted)
    return layer


def _shifted(layer: QuantizedWeighted, shift: Tensor) -> Tensor:
    return shift.clone() if layer.bias is None else layer.bias + shift


class Means(StageRunner):
    """Runs a fused graph and gathers the mean before the activation of each of its blocks."""

    def __init__(self, fused: FusedModule) -> None:
        super().__init__(fused)
        self._means: dict[str, OutputMean] = {}

    @torch.no_grad()
    def targets(self, batches: Sequence[Tensor]) -> Targets:
        """One pass over `batches`, and nothing of what was run before."""
        self._means = {}
        outputs = [self.run(x) for x in batches]
        return Targets({path: mean.value() for path, mean in self._means.items()}, outputs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        block = self.module.get_submodule(target)
        if isinstance(block, Block):
            self._means.setdefault(target, OutputMean(block)).add(*args)
        return super().call_module(target, args, kwargs)
