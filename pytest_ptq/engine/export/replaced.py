"""One layer in the place of another."""

from __future__ import annotations

from torch import nn

from pytest_ptq.engine.graph import StageModule, put_layer


def replace_layer(module: StageModule, path: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one at `path`. What stood below that one (`conv.dequantize`) stays there."""
    children = module.get_submodule(path)._modules
    put_layer(module, path, layer)
    for name, child in children.items():
        layer.add_module(name, child)
