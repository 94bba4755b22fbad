"""How the output of an int8 model is stored."""

from __future__ import annotations

from torch import fx

from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.graph import layer_of
from pytest_ptq.engine.modules import DeQuantize


def output_scale(model: QuantizedModule) -> float | None:
    """The scale of the output where it is stored as integers up to the end; None where it is computed in float.

    Most classifiers end in a linear layer that returns float: None.
    """
    (output,) = (node for node in model.graph.nodes if node.op == "output")
    returned = output.args[0]
    layer = layer_of(model, returned) if isinstance(returned, fx.Node) else None
    return layer.x.scale if isinstance(layer, DeQuantize) else None
