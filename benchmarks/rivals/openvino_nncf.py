"""NNCF's post-training quantization at its defaults, run by OpenVINO."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.in_runtime import SOURCES, InRuntime
from benchmarks.rivals.rival import Predict, Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


def quantize(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """`openvino.convert_model`, `nncf.quantize` with every calibration image, one at a time, and OpenVINO's runtime."""
    import nncf
    import openvino

    images = [image[None].contiguous().numpy() for batch in calibration for image in batch]
    converted = openvino.convert_model(model, example_input=calibration[0][:1])
    quantized = nncf.quantize(converted, nncf.Dataset(images), subset_size=len(images))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "int8.xml"
        openvino.save_model(quantized, path, compress_to_fp16=False)
        return InRuntime("openvino", path, calibration[0][:1], settings.threads)


RIVALS = (Rival("nncf_openvino", "NNCF -> OpenVINO", __name__, ("nncf", "openvino"), quantize, SOURCES),)
