"""Other tensors for the layers of an int8 model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.graph import STAGE_FIELDS, finish, put_layer, stage_copy
from pytest_ptq.engine.modules import QuantizedWeighted

Tensors = Mapping[str, Tensor | None]
"""By name, what a layer gets: `weight` (int8) or `bias`."""


def with_tensors(quantized: QuantizedModule, tensors: Mapping[str, Tensors]) -> QuantizedModule:
    """The int8 model with other tensors in some layers. `quantized`, which shares the rest, stays as it is."""
    better = stage_copy(quantized, QuantizedModule)
    better.__dict__.update({name: quantized.__dict__[name] for name in STAGE_FIELDS if name in quantized.__dict__})
    for path, new in tensors.items():
        layer = better.get_submodule(path)
        assert isinstance(layer, QuantizedWeighted)
        put_layer(better, path, layer.with_tensors(**new))
    finish(better)
    return better
