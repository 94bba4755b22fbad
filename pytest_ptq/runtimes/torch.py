"""torch by itself: TorchScript files, which need neither this engine nor the Python code that made them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_ptq.runtimes.failures import patterns, told
from pytest_ptq.runtimes.interface import Array, Kernel, KernelCounts, Runtime

TITLE = "torch"
KNOWN = patterns(
    r"Unknown builtin op: (?P<op>[\w:]+)",
    r"Could not run '(?P<op>[\w:.]+)' with arguments",
    r"(?:RuntimeError|Error): (?P<why>[^\n]*)\s*$",
)
INT8_NAMESPACES = ("quantized::", "onednn::q")
PRODUCTS = ("conv", "linear", "addmm", "matmul", "::mm", "::bmm", "baddbmm", "scaled_dot_product")
MOVES = (
    "view", "reshape", "flatten", "permute", "transpose", "contiguous", "quantize_per", "dequantize", "::to", "size",
    "slice", "select", "::cat", "chunk", "::t", "unsqueeze", "squeeze", "prepack", "__", "item", "clone", "detach",
)  # fmt: skip


class TorchScriptSession:
    """One TorchScript program."""

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        self._threads = threads
        with told(TITLE, "load", KNOWN), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated
            self._program: Any = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]

    def run(self, array: Array) -> Array | tuple[Array, ...]:
        import torch

        before = torch.get_num_threads()
        try:
            torch.set_num_threads(self._threads)
            with told(TITLE, "run", KNOWN), torch.inference_mode():
                output = self._program(torch.from_numpy(array))
        finally:
            torch.set_num_threads(before)
        return output.numpy() if isinstance(output, torch.Tensor) else tuple(part.numpy() for part in output)

    def kernels(self) -> KernelCounts:
        """Counted in the program, with everything that it calls."""
        return KernelCounts(tuple(_kernels(self._program.inlined_graph)))


def _kernels(graph: Any) -> Iterator[Kernel]:
    for node in graph.nodes():
        kind = node.kind()
        namespace, _, name = kind.partition("::")
        if namespace == "prim" or any(word in kind for word in MOVES) or name.endswith("_prepack"):
            continue
        int8 = kind.startswith(INT8_NAMESPACES)
        source = node.output().debugName() if node.outputsSize() == 1 else ""
        yield Kernel(source, kind, int8, any(word in kind for word in PRODUCTS), (source,) if source else ())


TORCH = Runtime("torch", TITLE, ("torch",), "", (".pt", ".pth", ".ts"), TorchScriptSession)
