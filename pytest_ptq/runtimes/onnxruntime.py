"""ONNX Runtime on the CPU: .onnx files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pytest_ptq.runtimes.failures import patterns, told
from pytest_ptq.runtimes.interface import Array, Kernel, KernelCounts, Runtime

TITLE = "ONNX Runtime"
KNOWN = patterns(
    r'In Node, \("(?P<node>[^"]*)", (?P<op>[\w.]+),.*?, Error (?P<why>.*)',
    r"(?P<why>Could not find an implementation for (?P<op>[\w.:]+)\(\d+\) node with name '(?P<node>[^']*)')",
    r"running (?P<op>[\w.]+) node\. Name:'(?P<node>[^']*)' Status Message: (?:/\S+:\d+ .*?was false\. )?(?P<why>.*)",
    r"Type Error: (?P<why>.*?of operator \((?P<op>\w+)\) in node \((?P<node>[^)]*)\).*)",
    r"Node \((?P<node>[^)]*)\) Op \((?P<op>\w+)\) (?P<why>.*)",
    r"failed:\s*(?P<why>.*)",
    r"\[ONNXRuntimeError\] : \d+ : \w+ : (?P<why>.*)",
)
PRODUCTS = frozenset({
    "Conv", "ConvTranspose", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Attention",
    "MultiHeadAttention", "Einsum",
})  # fmt: skip
"""Operations of float that multiply with weights, by the names that graph optimization gives them."""
INT8_PRODUCTS = frozenset({
    "QLinearConv", "QLinearConvTranspose", "ConvInteger", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QGemm", "QAttention",
})  # fmt: skip
MOVES = frozenset({
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Identity", "Constant", "ConstantOfShape",
    "Shape", "Cast", "Slice", "Gather", "Split", "Tile", "DepthToSpace", "SpaceToDepth", "Dropout", "ReorderInput",
    "ReorderOutput", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MemcpyFromHost", "MemcpyToHost",
})  # fmt: skip
"""Operations that compute nothing: what they take they hand on, elsewhere or in another form."""
TO_FLOAT = frozenset({
    "DequantizeLinear", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "ConvInteger", "MatMulInteger", "QAttention",
})  # fmt: skip
"""Operations that read int8 and write float, or sums of 32 bits."""
FATAL = 4


class OnnxRuntimeSession:
    """One model in ONNX Runtime, with all of its graph optimizations."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        self._path, self._threads = path, threads
        with told(TITLE, "load", KNOWN):
            self._session = onnxruntime.InferenceSession(
                str(path), _options(threads), providers=["CPUExecutionProvider"]
            )
        self._input = [node.name for node in self._session.get_inputs()]

    def run(self, array: Array) -> Array | tuple[Array, ...]:
        with told(TITLE, "run", KNOWN):
            outputs: list[Any] = self._session.run(None, dict.fromkeys(self._input, array))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def kernels(self) -> KernelCounts:
        """Counted in the optimized graph, which ONNX Runtime writes when it loads a model."""
        import onnx
        import onnxruntime

        with tempfile.TemporaryDirectory(prefix="pytest-ptq-") as folder, told(TITLE, "optimize", KNOWN):
            options = _options(self._threads)
            options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
            onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
            graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
        return KernelCounts(tuple(_kernels(graph)))


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its threads would go on spinning for 40 ms after a run, in which whatever is timed next would be slowed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # What goes wrong is raised; its log would say it once more.
    options.log_severity_level = FATAL
    return options


def _kernels(graph: Any) -> Iterator[Kernel]:
    integers = set(_stored_integers(graph))
    for node in graph.node:
        int8 = _reads_int8(node, integers)
        if int8 and node.op_type not in TO_FLOAT:
            integers.update(node.output)
        if node.op_type not in MOVES:
            weighted = node.op_type in PRODUCTS | INT8_PRODUCTS
            sources = dict.fromkeys(filter(None, (node.name, *node.output)))
            yield Kernel(node.name, node.op_type, int8, weighted, tuple(sources))


def _reads_int8(node: Any, integers: Iterable[str]) -> bool:
    named = node.op_type in INT8_PRODUCTS or node.op_type.startswith("QLinear") or node.op_type == "QuantizeLinear"
    # What knows no quantization (MaxPool, Clip, Resize) may be given integers none the less.
    return named or bool(node.input and node.input[0] in integers)


def _stored_integers(graph: Any) -> Iterator[str]:
    import onnx

    int8 = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    yield from (value.name for value in graph.input if value.type.tensor_type.elem_type in int8)


ONNXRUNTIME = Runtime("onnxruntime", TITLE, ("onnxruntime", "onnx"), "onnxruntime", (".onnx",), OnnxRuntimeSession)
