"""Layers that a tracer sees only from outside, opened: attention and transformers as linear layers and arithmetic.

Each computes what the layer it stands for computes in eval mode, with the same tensors under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from pytest_ptq.engine.attention import (
    OpenedDecoder,
    OpenedDecoderLayer,
    OpenedEncoder,
    OpenedEncoderLayer,
    open_attention,
)
from pytest_ptq.engine.swin import OpenedPatchMerging, OpenedWindowAttention


def open_layers(model: nn.Module) -> None:
    """Replace every layer below `model` that the table knows. `model` is a copy that may be changed."""
    for name, child in list(model.named_children()):
        opened = _OPENED.get(f"{type(child).__module__}.{type(child).__qualname__}")
        if opened is not None:
            child = opened(child)
            setattr(model, name, child)
        open_layers(child)


_OPENED: Mapping[str, Callable[[Any], nn.Module]] = {
    "torch.nn.modules.activation.MultiheadAttention": open_attention,
    "torch.nn.modules.transformer.TransformerEncoderLayer": OpenedEncoderLayer,
    "torch.nn.modules.transformer.TransformerEncoder": OpenedEncoder,
    "torch.nn.modules.transformer.TransformerDecoderLayer": OpenedDecoderLayer,
    "torch.nn.modules.transformer.TransformerDecoder": OpenedDecoder,
    "torchvision.models.swin_transformer.ShiftedWindowAttention": OpenedWindowAttention,
    "torchvision.models.swin_transformer.PatchMerging": OpenedPatchMerging,
}
"""By qualified name: torchvision takes long to import, and whoever uses it has imported it."""
