"""torch's own FX graph mode, which is marked for removal: what PyTorch's tutorials still show."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.rivals.rival import Predict, Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


def quantize(
    model: nn.Module, calibration: list[Tensor], settings: Settings, *, engine: str, per_tensor: bool = False
) -> Predict:
    """`prepare_fx`, calibration, `convert_fx`; traced where it is to be compiled.

    Args:
        engine: `torch.backends.quantized.engine` and the name of the qconfig mapping.
        per_tensor: take `default_qconfig` (min/max, one scale a weight) instead of the engine's own.
    """
    import torch
    from torch.ao import quantization as ao
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = engine
    if per_tensor:
        mapping: Any = ao.QConfigMapping().set_global(ao.default_qconfig)
    else:
        mapping = ao.get_default_qconfig_mapping(engine)
    backend: Any = ao.backend_config.get_onednn_backend_config() if engine == "onednn" else None
    prepared = prepare_fx(model, mapping, (calibration[0],), backend_config=backend)
    with torch.no_grad():
        for batch in calibration:
            prepared(batch)
    converted: Any = convert_fx(prepared, qconfig_mapping=mapping, backend_config=backend)
    if settings.compiled:
        converted = torch.jit.freeze(torch.jit.trace(converted, calibration[0]))  # type: ignore[no-untyped-call]
    return converted  # type: ignore[no-any-return]


RIVALS = (
    Rival(
        "torch_fx_default", "torch FX default (min/max, per tensor)", __name__, (),
        partial(quantize, engine="fbgemm", per_tensor=True),
    ),
    Rival("torch_fx_x86", "torch FX x86", __name__, (), partial(quantize, engine="x86")),
    Rival("torch_fx_onednn", "torch FX onednn", __name__, (), partial(quantize, engine="onednn")),
)  # fmt: skip
