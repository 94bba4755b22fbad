"""NNCF's post-training quantization at its defaults, run by OpenVINO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.rivals.rival import Predict, Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


def quantize(model: nn.Module, calibration: list[Tensor], settings: Settings) -> Predict:
    """`openvino.convert_model`, `nncf.quantize` with every calibration image, one at a time, `compile_model`."""
    import nncf
    import openvino
    import torch

    images = [image[None].contiguous().numpy() for batch in calibration for image in batch]
    converted = openvino.convert_model(model, example_input=calibration[0][:1])
    quantized = nncf.quantize(converted, nncf.Dataset(images), subset_size=len(images))
    threads = {"INFERENCE_NUM_THREADS": settings.threads, "PERFORMANCE_HINT": "LATENCY"}
    ready = openvino.Core().compile_model(quantized, "CPU", threads)

    def predict(batch: Tensor) -> Tensor:
        return torch.from_numpy(ready(batch.contiguous().numpy())[0].copy())

    return predict


RIVALS = (Rival("nncf_openvino", "NNCF -> OpenVINO", __name__, ("nncf", "openvino"), quantize),)
