"""torchao's PT2E with the quantizer for x86; its int8 graph runs as it is, or through Inductor when compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.rivals.rival import Predict, Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


def quantize(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """`torch.export`, `prepare_pt2e`, calibration, `convert_pt2e`."""
    import torch
    from torchao.quantization.pt2e import quantizer as _  # noqa: F401  (registers what the next line needs)
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    shapes = None if settings.compiled else ({0: torch.export.Dim("images")},)
    # Strict: otherwise ResNet50's blocks, which call one ReLU three times, end in "more than one output node".
    exported = torch.export.export(model, (calibration[0],), dynamic_shapes=shapes, strict=True).module()
    chosen = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported, chosen)
    with torch.no_grad():
        for batch in calibration:
            prepared(batch)
    converted: Any = convert_pt2e(prepared)
    return compiled(converted) if settings.compiled else converted  # type: ignore[no-any-return]


def compiled(converted: Any) -> Any:
    """The graph lowered to int8 kernels by Inductor."""
    import torch
    from torch._inductor import config

    config.freezing = True
    return torch.compile(converted)


RIVALS = (Rival("torchao_pt2e", "torchao PT2E", __name__, ("torchao",), quantize),)
