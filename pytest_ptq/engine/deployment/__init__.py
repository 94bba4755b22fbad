"""A model as it is called in production: one program, weights packed, no Python between the layers.

A call of a layer takes ten microseconds from Python, and as many from TorchScript inside of torch's own wrapper, which
on MobileNetV2 is more than the arithmetic. So a model, int8 or float alike, becomes a program of compiled kernels where
the machine and the layers allow it, and else is traced by TorchScript. It is made for the size of an example; batches
of any length run through it, and images of another size through the graph that it was made from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pytest_ptq.engine import kernels
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.deployment.native import NativeModel, NotNativeError, to_native
from pytest_ptq.engine.deployment.packed import to_packed
from pytest_ptq.engine.deployment.ready import to_ready
from pytest_ptq.engine.freeze import FrozenModule
from pytest_ptq.engine.graph import StageModule
from pytest_ptq.engine.kernels.native import UnavailableError
from pytest_ptq.errors import QuantizationError

STEP_SHARE = 0.02
"""How much of the outputs' power two kernels may differ by: values that lie half-way are rounded either way."""
EXACT = 1e-9
"""The same where nothing is rounded to integers, or the kernels are the same."""


class DeployedModule(nn.Module):
    """Takes and returns what the model does that it was made from.

    kernels: `native` (compiled on this machine); of torch's `packed` (quantized tensors), `plain` (plain uint8 tensors)
        or `float`.
    caller: `program`, `torchscript`, or `python` where the model could not be traced.
    not_native: why the kernels are not the compiled ones; empty where they are.
    """

    def __init__(self, model: StageModule, program: Any, size: torch.Size, kind: str, not_native: str = "") -> None:
        super().__init__()
        self._model = [model]  # in a list: it is only kept for inputs of another size
        self.program, self.size, self.not_native = program, size, not_native
        self.kernels = kind
        self.caller = "python" if program is None else "program" if kind == "native" else "torchscript"

    def forward(self, x: Tensor) -> Any:
        if self.program is None or x.shape[1:] != self.size:
            return self._model[0](x)
        if self.kernels == "native" and x.dtype is not torch.float32:
            return self._model[0](x)
        return kernels.run_with_onednn(self.program, x) if self.kernels == "packed" else self.program(x)


class DeployedOnCall(nn.Module):
    """A model that is deployed for the first input that it is called with."""

    def __init__(self, model: QuantizedModule | FrozenModule) -> None:
        super().__init__()
        self._model = [model]
        self.deployed: DeployedModule | None = None

    def forward(self, x: Tensor) -> Any:
        if self.deployed is None:
            self.deployed = deploy(self._model[0], x)
        return self.deployed(x)

    @property
    def kind(self) -> str:
        """Kernels and caller, in words; empty before the first call."""
        return f"{self.deployed.kernels} {self.deployed.caller}" if self.deployed is not None else ""


def deploy(model: QuantizedModule | FrozenModule, example: Tensor, verify: bool = True) -> DeployedModule:
    """The fastest way to call a model that this torch has.

    Args:
        model: what `quantize`, `convert`, `load` or `freeze` returned. It is not changed.
        example: an input (N, ...) of the size that will be called with. Other batch sizes give the same answers, but
            what kernels prepare, they prepare for this one.
        verify: hold the program's answers against the model's; whoever has done so before may leave it.

    Raises:
        QuantizationError: it is neither an int8 model nor a frozen one.
    """
    if not isinstance(model, (QuantizedModule, FrozenModule)):
        raise QuantizationError(
            f"deploy was given a {type(model).__name__}",
            stage="deploy",
            remedy="Give it what quantize, convert, load or freeze returned.",
        )
    size = example.shape[1:]
    native, why = _native(model, example, verify)
    if native is not None:
        return DeployedModule(model, native, size, "native")
    if not isinstance(model, QuantizedModule):
        return DeployedModule(model, _program(to_ready, model, example, EXACT if verify else None), size, "float", why)
    if kernels.has_quantized_tensors():
        with kernels.onednn_engine():
            program = _program(to_packed, model, example, STEP_SHARE if verify else None)
        if program is not None:
            return DeployedModule(model, program, size, "packed", why)
    return DeployedModule(model, _program(to_ready, model, example, EXACT if verify else None), size, "plain", why)


def called_as_deployed(model: Any, example: Tensor) -> Any:
    """What stands for `model` where it is timed: its deployed form, unverified, or whatever else it is itself."""
    return deploy(model, example, verify=False) if isinstance(model, (QuantizedModule, FrozenModule)) else model


@torch.no_grad()
def _native(model: QuantizedModule | FrozenModule, x: Tensor, verify: bool) -> tuple[NativeModel | None, str]:
    """The model as a program of compiled kernels; or None, and why it is not."""
    share = STEP_SHARE if isinstance(model, QuantizedModule) else EXACT
    try:
        program = to_native(model, x)
        if verify and not _agree(model(x), program(x), share):
            return None, "it answers otherwise than the model"
    except (NotNativeError, UnavailableError) as reason:
        return None, str(reason)
    return program, ""


@torch.no_grad()
def _program(
    make: Callable[[Any, Tensor], nn.Module | None], model: StageModule, x: Tensor, share: float | None
) -> Any:
    """What `make` makes of the model, traced; None where it cannot be, or answers otherwise than the model.

    share: of the output's power, which the answers may differ by; None asks nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, and remarks on every size that it takes down
            twin = make(model, x)
            if twin is None:
                return None
            traced: Any = torch.jit.trace(twin, (x,), check_trace=False)  # type: ignore[no-untyped-call]
            program: Any = torch.jit.freeze(traced.eval())
            if share is None:
                return program
            # The executor specialises during its first calls; a batch of one may be traced as what broadcasts.
            for batch in (x, x, torch.cat([x, x])):
                if not _agree(model(batch), program(batch), share):
                    return None
    except Exception:
        # Whatever a tracer or this torch's TorchScript stumbles over: the graph itself still runs.
        return None
    return program


def _agree(expected: Any, found: Any, share: float) -> bool:
    if isinstance(expected, Tensor):
        if not isinstance(found, Tensor) or expected.shape != found.shape:
            return False
        return bool((expected - found).double().square().sum() <= share * expected.double().square().sum())
    if isinstance(expected, dict):
        return expected.keys() == found.keys() and all(_agree(v, found[k], share) for k, v in expected.items())
    return len(expected) == len(found) and all(_agree(a, b, share) for a, b in zip(expected, found, strict=True))
