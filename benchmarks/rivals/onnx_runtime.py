"""ONNX Runtime: a QDQ model with unsigned activations and signed weights, one scale an output channel."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.in_runtime import SOURCES, InRuntime
from benchmarks.rivals.rival import Predict, Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES = ("onnx", "onnxruntime")
OPSET = 17
CHUNK = 32
"""Images whose activations the histogram calibrators hold at once; they hold all of them unless told otherwise."""


def quantize(model: nn.Module, calibration: list[Tensor], settings: Settings, *, method: str) -> Predict:
    """Export, `quant_pre_process`, `quantize_static`.

    Args:
        method: MinMax, Entropy or Percentile, at ONNX Runtime's own defaults.
    """
    from onnxruntime import quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [str(folder / f"{stage}.onnx") for stage in ("fp32", "prepared", "int8")]
        export(model, calibration[0][:1], paths[0])
        quant_pre_process(paths[0], paths[1])
        count = sum(len(batch) for batch in calibration)
        ort.quantize_static(
            paths[1],
            paths[2],
            _Reader(calibration),
            quant_format=ort.QuantFormat.QDQ,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            per_channel=True,
            calibrate_method=getattr(ort.CalibrationMethod, method),
            extra_options={} if count % CHUNK else {"CalibStridedMinMax": CHUNK},
        )
        return InRuntime("onnxruntime", Path(paths[2]), calibration[0][:1], settings.threads)


def export(model: nn.Module, example: Tensor, path: str) -> None:
    """Write the model with any number of images, by the exporter that needs no further package."""
    import torch

    axes = {"images": {0: "n"}, "logits": {0: "n"}}
    torch.onnx.export(
        model, (example,), path, dynamo=False, opset_version=OPSET, input_names=["images"], output_names=["logits"],
        dynamic_axes=axes,
    )  # fmt: skip


class _Reader:
    """The images one by one, as ONNX Runtime asks for them."""

    def __init__(self, calibration: list[Tensor]) -> None:
        self._images = [image[None].contiguous().numpy() for batch in calibration for image in batch]
        self.set_range(0, len(self._images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(self._images[start_index:end_index])

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._rest, None)
        return None if image is None else {"images": image}

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, Any]:
        found = self.get_next()
        if found is None:
            raise StopIteration
        return found


RIVALS = tuple(
    Rival(
        f"onnxruntime_{method.lower()}", f"ONNX Runtime {method}", __name__, PACKAGES,
        partial(quantize, method=method), SOURCES,
    )
    for method in ("MinMax", "Entropy", "Percentile")
)  # fmt: skip
