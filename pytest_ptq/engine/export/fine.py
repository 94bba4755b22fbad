"""Pairs of 16 bits: what a runtime has to round by its fusions, and loses next to nothing by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pytest_ptq.engine.affine import QParams

UINT16 = (0, 65535)
APART = 1 + 2.0**-18
"""By how much the two scales of a pair differ: by at most a quarter of a step at the ends of its range.

OpenVINO 2026.4 takes a pair of 16 bits out of the graph when it gives back what it is given. Of scales that differ by
one float32, a part of the pairs is left, of eight, all.
"""
DOMAIN, OPERATION = "pytest_ptq", "FineRoundTrip"
"""What stands for a pair until the file is finished: torch's exporter knows no uint16."""
FINE_OPSET = 21
"""The first operator set whose QuantizeLinear writes uint16."""


class _FineRoundTrip(torch.autograd.Function):
    """float -> uint16 -> float."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, zero_point: int) -> Tensor:
        q = torch.round(x / scale).add_(zero_point).clamp_(*UINT16)
        return q.sub_(zero_point).mul_(scale * APART)

    @staticmethod
    def symbolic(g: Any, x: Any, scale: float, zero_point: int) -> Any:
        y = g.op(f"{DOMAIN}::{OPERATION}", x, scale_f=scale, zero_point_i=zero_point)
        y.setType(x.type())
        return y


def fine_round_trip(x: Tensor, q: QParams) -> Tensor:
    """A float tensor as it comes back from integers of 16 bits by `q`."""
    y: Tensor = _FineRoundTrip.apply(x, q.scale, q.zero_point)
    return y


def with_fine_pairs(onnx: Any, model: Any) -> Any:
    """The model with QuantizeLinear and DequantizeLinear in place of what stands for them, in a later operator set.

    A model without any is returned as it is.
    """
    nodes: list[Any] = []
    for node in model.graph.node:
        nodes += _pair(onnx, model.graph, node) if node.domain == DOMAIN else [node]
    if len(nodes) == len(model.graph.node):
        return model
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    kept = [o for o in model.opset_import if o.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    found = onnx.version_converter.convert_version(model, FINE_OPSET)
    found.ir_version = max(found.ir_version, onnx.helper.find_min_ir_version_for(found.opset_import))
    return found


def _pair(onnx: Any, graph: Any, node: Any) -> list[Any]:
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    name, stored = node.output[0], f"{node.output[0]}:stored"
    scale, zero, back = f"{name}:scale", f"{name}:zero_point", f"{name}:scale_back"
    make, tensor, types = onnx.helper.make_node, onnx.helper.make_tensor, onnx.TensorProto
    graph.initializer.append(tensor(scale, types.FLOAT, [], [given["scale"]]))
    graph.initializer.append(tensor(back, types.FLOAT, [], [given["scale"] * APART]))
    graph.initializer.append(tensor(zero, types.UINT16, [], [given["zero_point"]]))
    return [
        make("QuantizeLinear", [node.input[0], scale, zero], [stored], f"{node.name}/QuantizeLinear"),
        make("DequantizeLinear", [stored, back, zero], [name], f"{node.name}/DequantizeLinear"),
    ]
