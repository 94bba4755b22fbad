"""Bias correction, the full and sequential kind.

Quantization shifts the mean of a layer's output, and a shift is not averaged out by what follows: it adds up from
layer to layer. Layer by layer in graph order, with the int8 network so far as input, the difference of the outputs'
means for each channel is taken into the bias (Nagel et al., arXiv 1906.04721, section 4.2, equation 17, with
empirical means as in its appendix D). The fast kind, which compares each layer on fp32 inputs, misses what the layers
before it have shifted.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from pytest_ptq.engine import kernels
from pytest_ptq.engine.blocks import Block
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.correct.exchange import with_tensors
from pytest_ptq.engine.correct.lockstep import Arguments, lockstep
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of, put_layer, stage_copy
from pytest_ptq.engine.modules import QuantizedConv2d, QuantizedWeighted


def bias_shifts(fused: FusedModule, quantized: QuantizedModule, batches: Sequence[Tensor]) -> Mapping[str, Tensor]:
    """What has to be added to the bias of each int8 layer, by its path: float32 (out_channels,).

    Args:
        fused: the float model; its outputs are what the int8 model is brought back to.
        quantized: the int8 model made from it, not changed.
        batches: calibration inputs. The int8 values of all of them that are still to be read are in memory at once.
    """
    targets = _float_means(fused, batches)
    working = stage_copy(quantized, QuantizedModule)
    shifts: dict[str, Tensor] = {}

    def correct(node: fx.Node, read: Arguments) -> None:
        layer, path = layer_of(working, node), str(node.target)
        if not isinstance(layer, QuantizedWeighted) or path not in targets:
            return
        probe, seen = _before_activation(layer), _Mean()
        for args in read:
            seen.add(_with_residual(probe(args[0]), layer, args[1:]), layer.weight.ndim)
        shifts[path] = (targets[path] - seen.value()).float()
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


def _before_activation(layer: QuantizedWeighted) -> QuantizedWeighted:
    """A layer that writes, as float32, what `layer` computes before residual, activation and rounding."""
    twin = copy.copy(layer)
    twin.__dict__["_buffers"] = {**layer._buffers, "ceilings": None}
    twin.activation, twin.out, twin.adds = "none", None, False
    if isinstance(twin, QuantizedConv2d):
        twin.residual = None
    twin._prepare()
    return twin


def _with_residual(y: Tensor, layer: QuantizedWeighted, others: tuple[Tensor, ...]) -> Tensor:
    """A residual that has shifted is corrected as well: the sum is what the activation reads."""
    if others and isinstance(layer, QuantizedConv2d) and layer.residual is not None:
        return y + kernels.dequantize(others[0], layer.residual)
    return y


class _Mean:
    """Mean of every output channel, in float64, over tensors that stream by."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0

    def add(self, y: Tensor, weight_ndim: int) -> None:
        # A convolution has its channels in the second dimension, a linear layer in the last.
        y = y.movedim(1, -1) if weight_ndim > 2 else y
        rows = y.reshape(-1, y.shape[-1])
        total = rows.double().sum(0)
        self.total = total if self.total is None else self.total + total
        self.count += len(rows)

    def value(self) -> Tensor:
        assert self.total is not None
        return self.total / self.count


class _Means(fx.Interpreter):
    """Runs a fused graph and gathers the mean before the activation of each of its blocks."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.means: dict[str, _Mean] = {}

    def run_node(self, n: fx.Node) -> object:
        block = layer_of(self.module, n)  # type: ignore[arg-type]
        if not isinstance(block, Block):
            return super().run_node(n)
        args, _ = self.fetch_args_kwargs_from_env(n)
        y = block.before_activation(*args)
        self.means.setdefault(str(n.target), _Mean()).add(y, block.weight.ndim)
        return block.activate(y)


@torch.no_grad()
def _float_means(fused: FusedModule, batches: Sequence[Tensor]) -> dict[str, Tensor]:
    runner = _Means(fused)
    for x in batches:
        runner.run(x)
    return {path: mean.value() for path, mean in runner.means.items()}
