"""OpenVINO on the CPU: .onnx files, and .xml files with their .bin beside them."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pytest_ptq.runtimes.failures import patterns, told
from pytest_ptq.runtimes.interface import Array, Kernel, KernelCounts, Runtime

TITLE = "OpenVINO"
KNOWN = patterns(
    r"ONNX node '<Node\((?P<op>[\w.]+)\): (?P<node>[^>]*)>'.*?with friendly_name '[^']*':\s*(?P<why>.*)",
    r"-- (?P<op>[\w.]+)-\d+ with a message:\s*(?P<why>.*)",
    r"(?P<why>No conversion rule found for operations: (?P<op>\w+))",
    r"validating node '(?:\w+::)?(?P<op>\w+) [^']*' with friendly_name '(?P<node>[^']*)':\s*(?P<why>.*)",
    r"\[CPU\] (?P<op>\w+) node with name [`'](?P<node>[^`']*)[`'] ?(?P<why>.*)",
    r"(?P<why>Unable to read the model.*?)(?: Please check|$)",
    r"(?P<why>Could not open the file.*)",
)
PRODUCTS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul", "ScaledDotProductAttention"})
MOVES = frozenset({
    "Input", "Output", "Const", "Reorder", "Reshape", "Transpose", "Convert", "ShapeOf", "Gather", "Concatenation",
    "Split", "StridedSlice", "Tile", "Broadcast", "DepthToSpace", "SpaceToDepth", "ShuffleChannels", "FakeQuantize",
    "Quantize",
})  # fmt: skip
"""Layers that compute nothing: what they take they hand on, elsewhere or in another form."""
INT8 = frozenset({"u8", "i8"})
SHAPES = 4
"""How many input shapes stay compiled."""


class OpenVinoSession:
    """One model in OpenVINO, compiled for each shape that it is given, which makes MobileNetV2 a tenth faster."""

    def __init__(self, path: Path, threads: int) -> None:
        self._threads = threads
        self._core = _core()
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        with told(TITLE, "load", KNOWN):
            self._model = self._core.read_model(str(path))
        self._latest: Any = None

    def run(self, array: Array) -> Array | tuple[Array, ...]:
        with told(TITLE, "run", KNOWN):
            request = self._request(array.shape)
            found = request.infer([array], share_inputs=True, share_outputs=False)
            outputs = tuple(found.values())
        return outputs[0] if len(outputs) == 1 else outputs

    def kernels(self) -> KernelCounts:
        """Counted in the runtime model: the graph as the CPU plugin has compiled it, for the latest input."""
        with told(TITLE, "compile", KNOWN):
            latest = self._compile(self._model) if self._latest is None else self._latest
            operations = latest.get_runtime_model().get_ordered_ops()
            return KernelCounts(tuple(_kernels(operations)))

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._compiled:
            model = self._model.clone()
            if model.input().partial_shape.is_dynamic:
                model.reshape(list(shape))
            self._latest = self._compile(model)
            self._compiled[shape] = self._latest.create_infer_request()
            while len(self._compiled) > SHAPES:
                self._compiled.popitem(last=False)
        return self._compiled[shape]

    def _compile(self, model: Any) -> Any:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
            # On CPUs with bfloat16 it would compute in that what is float32 in the model.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        return self._core.compile_model(model, "CPU", settings)


@cache
def _core() -> Any:
    """One for the whole process, which is never taken down.

    Its CPU plugin gives the thread that makes it another stack for signals, and gives back the former one when it goes:
    of several that go in another order than they came, one gives back a stack that is gone, and the next signal ends
    the process.
    """
    with _without_telemetry():
        import openvino
    return openvino.Core()


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Let OpenVINO be imported without what it tells a server of each import.

    It does so from a process that it forks: tests are to run offline, and a worker that ends meanwhile would leave that
    process behind. Where the package that does it cannot be imported, OpenVINO goes without.
    """
    name = "openvino_telemetry"
    if name in sys.modules or "openvino" in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def _kernels(operations: list[Any]) -> Iterator[Kernel]:
    for operation in operations:
        info = operation.get_rt_info()
        kind = _text(info, "layerType")
        if kind not in MOVES:
            sources = tuple(filter(None, _text(info, "originalLayersNames").split(",")))
            int8 = _text(info, "runtimePrecision") in INT8
            yield Kernel(operation.get_friendly_name(), kind, int8, kind in PRODUCTS, sources)


def _text(info: Any, key: str) -> str:
    if key not in info:
        return ""
    value = info[key]
    return str(getattr(value, "value", value))


OPENVINO = Runtime("openvino", TITLE, ("openvino", "onnx"), "openvino", (".onnx", ".xml"), OpenVinoSession)
