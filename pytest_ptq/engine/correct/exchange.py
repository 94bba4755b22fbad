"""Other tensors for the layers of an int8 model."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor

from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.graph import put_layer
from pytest_ptq.engine.modules import QuantizedWeighted

Tensors = Mapping[str, Tensor | None]
"""By name, what a layer gets: `weight` (int8) or `bias`."""


def with_tensors(quantized: QuantizedModule, tensors: Mapping[str, Tensors]) -> QuantizedModule:
    """The int8 model with other tensors in the layers at some paths. `quantized` is not changed."""
    better = copy.deepcopy(quantized)
    for path, new in tensors.items():
        layer = better.get_submodule(path)
        assert isinstance(layer, QuantizedWeighted)
        put_layer(better, path, layer.with_tensors(**new))
    return better
