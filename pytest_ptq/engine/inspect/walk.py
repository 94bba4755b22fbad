"""One walk through the int8 graph beside the float graph, which asks everything that can be asked of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import layer_of
from pytest_ptq.engine.inspect.channels import Channels
from pytest_ptq.engine.inspect.saturation import Saturation, saturation
from pytest_ptq.engine.inspect.sqnr import Noise
from pytest_ptq.engine.kernels import dequantize, quantize
from pytest_ptq.engine.modules import DeQuantize, Int8Layer, IntegerLayer, Quantize
from pytest_ptq.metrics import LayerError

CHUNK = 8
"""Images that pass at once: the values of all layers of the float model are held that long."""


class LayerWatch:
    """What is known of one layer; grows with every batch, not with their number."""

    def __init__(self, name: str, op: str) -> None:
        self.name, self.op = name, op
        self.output, self.alone = Noise(), Noise()
        self.inputs: dict[str, Noise] = {}
        self.saturation: Saturation | None = None
        self.channels: Channels | None = None
        self.q: QParams | None = None
        self.heard = self.heard_alone = False

    def row(self, weight_db: float | None) -> LayerError:
        """The layer's figures so far, as a row of the table."""
        pairs, channels, q = self.saturation, self.channels, self.q
        return LayerError(
            self.name,
            self.op,
            self.output.db if self.heard else None,
            weight_db=weight_db,
            input_db=min((noise.db for noise in self.inputs.values()), default=None),
            alone_db=self.alone.db if self.heard_alone else None,
            pairs=pairs.pairs if pairs else None,
            overflowing_pairs=pairs.overflowing if pairs else None,
            possible_pairs=pairs.possible if pairs else None,
            channels=channels.count if channels else None,
            dead_channels=channels.dead if channels else None,
            clipped_percent=channels.clipped_percent if channels else None,
            scale=q.scale if q else None,
            zero_point=q.zero_point if q else None,
        )


def key_of(node: fx.Node) -> str:
    """The name that a node has in both graphs."""
    return str(node.meta.get("layer", node.name))


class _Reference(fx.Interpreter):
    """Runs the float graph and keeps every tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op != "output":
            self.seen.setdefault(key_of(n), value)
        return value


class _Walk(fx.Interpreter):
    """Runs the int8 graph and holds every layer against the float graph's values."""

    def __init__(self, quantized: QuantizedModule, watches: Mapping[str, LayerWatch], ref: Mapping[str, Tensor]):
        super().__init__(quantized)
        self.quantized, self.watches, self.reference = quantized, watches, ref

    def run_node(self, n: fx.Node) -> Any:
        layer = layer_of(self.quantized, n)
        watch = None if isinstance(layer, (Quantize, DeQuantize)) else self.watches.get(key_of(n))
        if watch is not None:
            self._ask_before(watch, n, layer)
        value = super().run_node(n)
        if watch is not None and isinstance(value, Tensor):
            self._ask_after(watch, n, layer, value)
        return value

    def _ask_before(self, watch: LayerWatch, n: fx.Node, layer: nn.Module | None) -> None:
        """First of all: a kernel may write over what it reads."""
        if isinstance(layer, Int8Layer) and not isinstance(layer, IntegerLayer):
            first = self.env[n.all_input_nodes[0]]
            found = saturation(layer, first)
            if found is not None:
                watch.saturation = found if watch.saturation is None else watch.saturation + found
        exact = {node: self._exactly(node) for node in n.all_input_nodes}
        if any(given is None for given in exact.values()):
            return
        for node, given in exact.items():
            assert given is not None
            reference, stored, q = given
            if q is not None:
                watch.inputs.setdefault(node.name, Noise()).add(reference, dequantize(stored, q))
        args, kwargs = fx.map_arg((n.args, n.kwargs), lambda node: exact[node][1])  # type: ignore[index]
        alone = getattr(self, n.op)(n.target, args, kwargs)
        real = self._real(n, alone)
        if real is not None and self._expected(n, real) is not None:
            watch.alone.add(self.reference[key_of(n)], real)
            watch.heard_alone = True

    def _exactly(self, node: fx.Node) -> tuple[Any, Any, QParams | None] | None:
        """What a node would hold, were all before it exact: in float, as it is stored, and how that is."""
        value = self.env[node]
        if not isinstance(value, Tensor):
            return value, value, None
        source, q = node, None
        while isinstance(layer := layer_of(self.quantized, source), (Quantize, DeQuantize)):
            q = layer.out if isinstance(layer, Quantize) and q is None else q
            source = source.all_input_nodes[0]
        reference = self.reference.get(key_of(source))
        if reference is None or reference.shape != value.shape:
            return None
        if value.dtype is not torch.uint8:
            return reference, reference, None
        q = q or self.quantized.stored.get(key_of(source))
        if q is None:
            return None
        layout = torch.channels_last if reference.ndim == 4 else torch.contiguous_format
        return reference, quantize(reference.contiguous(memory_format=layout), q), q

    def _ask_after(self, watch: LayerWatch, n: fx.Node, layer: nn.Module | None, value: Tensor) -> None:
        real = self._real(n, value)
        reference = None if real is None else self._expected(n, real)
        if real is None or reference is None:
            return
        watch.output.add(reference, real)
        watch.heard = True
        watch.q = self.quantized.stored.get(key_of(n)) if value.dtype is torch.uint8 else None
        if isinstance(layer, Int8Layer) and not isinstance(layer, IntegerLayer):
            watch.channels = watch.channels or Channels(_channel_dim(layer, value))
            watch.channels.add(reference, value, watch.q)

    def _expected(self, n: fx.Node, real: Tensor) -> Tensor | None:
        reference = self.reference.get(key_of(n))
        return reference if reference is not None and reference.shape == real.shape else None

    def _real(self, n: fx.Node, value: Any) -> Tensor | None:
        """What a node's value stands for, in float."""
        if not isinstance(value, Tensor):
            return None
        if value.dtype is not torch.uint8:
            return value
        q = self.quantized.stored.get(key_of(n))
        return None if q is None else dequantize(value, q)


def _channel_dim(layer: nn.Module, value: Tensor) -> int:
    """Images (N, C, ...) have channels in front; what a linear layer writes has them at the end."""
    weight = getattr(layer, "weight", None)
    return 1 if value.ndim > 3 or (isinstance(weight, Tensor) and weight.ndim > 2) else -1


@torch.inference_mode()
def walk(fused: FusedModule, quantized: QuantizedModule, x: Tensor) -> dict[str, LayerWatch]:
    """Everything that is known of each int8 layer after the images `x`, in graph order."""
    watches = {d.layer: LayerWatch(d.layer, d.op) for d in quantized.plan.nodes.values() if d.int8}
    for part in torch.split(x, CHUNK):
        reference = _Reference(fused)
        reference.run(part)
        _Walk(quantized, watches, reference.seen).run(part)
    return watches
