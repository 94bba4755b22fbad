"""The int8 model as a TorchScript file, which a C++ program loads without Python and without this package.

The graph is traced. The kernels are scripted, because no tracer records them, and hold plain int8 weights: they are
packed in the process that loads the file, at the first call.
"""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytest_ptq.engine import kernels
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.deployment.ready import script_calls
from pytest_ptq.errors import StoreError


def save_torchscript(model: nn.Module, path: str | os.PathLike[str], example: Tensor) -> Path:
    """Write an int8 model for `torch.jit.load`; it answers as the model does, bit for bit, on the same CPU and torch.

    The batch size may differ from the example's. Every other size is fixed: an input of another one is an error.

    Args:
        model: what `quantize`, `convert` or `load` returned.
        path: the file.
        example: an input (N, ...) of the model, float32.

    Raises:
        StoreError: it is no int8 model, this torch has no TorchScript, the model cannot be traced, what was traced
            computes something else, or the file cannot be written.
    """
    if not isinstance(model, QuantizedModule):
        raise StoreError(
            f"save_torchscript was given a {type(model).__name__}", remedy="Give it what quantize or convert returned."
        )
    if not hasattr(getattr(torch, "jit", None), "trace"):
        raise StoreError(f"torch {torch.__version__} has no TorchScript", remedy="Use pytest_ptq.save.")
    # With two images, no tracer takes a batch of one for something that broadcasts.
    x = torch.cat([example, example]) if len(example) == 1 else example
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, and remarks on every size that it takes down
            traced: Any = torch.jit.trace(_scripted(model, x), (x,), check_trace=False)  # type: ignore[no-untyped-call]
        _compare(model, traced, x)
        _forget_packed(traced)
    except StoreError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise StoreError(f"the model cannot be traced ({type(error).__name__}: {reason})") from error
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        traced.save(str(target))
    except (OSError, RuntimeError) as error:
        raise StoreError("cannot write the TorchScript file", place=str(target)) from error
    return target


class _Guarded(nn.Module):
    """The model behind a check of its input's size, which a tracer would take down as a constant."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.guard = torch.jit.script(kernels.SizeGuard(list(x.shape[1:])))
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(self.guard(x))


def _scripted(model: QuantizedModule, x: Tensor) -> nn.Module:
    """A copy of the model whose kernels a tracer can record."""
    twin = copy.deepcopy(model)
    script_calls(twin, ready=False)
    return _Guarded(twin, x).eval()


def _compare(model: nn.Module, traced: nn.Module, x: Tensor) -> None:
    with torch.inference_mode():
        for batch in (x, x[:1]):
            if not _same(model(batch), traced(batch)):
                raise StoreError(
                    "TorchScript computes something else than the model",
                    remedy="An operation left in fp32 takes another path when it is traced; use pytest_ptq.save.",
                )


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(v, second[k]) for k, v in first.items())
    return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))


def _forget_packed(traced: Any) -> None:
    """What oneDNN packed for this process belongs to it, and no file can hold it."""
    for module in traced.modules():
        if hasattr(module, "packed"):
            module.packed = None
