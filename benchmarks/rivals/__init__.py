"""Other engines, each run in a process of its own: `python -m benchmarks.rivals` is that process.

A file an engine; what they share stands in `rival.py`. None of their packages is needed to import this.
"""

from __future__ import annotations

from benchmarks.rivals import neural_compressor, onnx_runtime, openvino_nncf, torch_fx, torchao_pt2e
from benchmarks.rivals.rival import Rival

RIVALS: tuple[Rival, ...] = (
    *torch_fx.RIVALS,
    *torchao_pt2e.RIVALS,
    *onnx_runtime.RIVALS,
    *openvino_nncf.RIVALS,
    *neural_compressor.RIVALS,
)
