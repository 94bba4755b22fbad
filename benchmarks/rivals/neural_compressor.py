"""Intel Neural Compressor 3.x: its static quantization of an exported model, which is PT2E inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.rivals.rival import Predict, Rival, Settings
from benchmarks.rivals.torchao_pt2e import compiled

if TYPE_CHECKING:
    from torch import Tensor, nn


def quantize(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """`export`, `prepare`, calibration, `convert`, all of them Neural Compressor's, with its default static config."""
    import torch
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import convert, get_default_static_config, prepare

    shapes = None if settings.compiled else ({0: torch.export.Dim("images")},)
    exported = export(model, (calibration[0],), dynamic_shapes=shapes)
    prepared = prepare(exported, get_default_static_config())
    with torch.no_grad():
        for batch in calibration:
            prepared(batch)
    converted: Any = convert(prepared)
    return compiled(converted) if settings.compiled else converted  # type: ignore[no-any-return]


PACKAGES = ("neural-compressor", "torchao", "prettytable", "psutil", "py-cpuinfo", "pydantic")
"""Neural Compressor's own list of what it needs is an extra of it that asks for more than this takes."""
RIVALS = (Rival("neural_compressor", "Neural Compressor", __name__, PACKAGES, quantize),)
