"""A model as programs of compiled kernels, one for each shape of input that it meets."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import torch
from torch import Tensor

from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.deployment.emit import INT8
from pytest_ptq.engine.deployment.emit_float import FLOATS
from pytest_ptq.engine.deployment.walk import NotNativeError, Walk
from pytest_ptq.engine.freeze import FrozenModule
from pytest_ptq.engine.kernels import native

KEPT = 4
"""Programs that are kept: each has packed weights of its own, and memory for its activations."""


class NativeModel:
    """Called like the model, with float32 images on the CPU.

    A program has its tensors at fixed addresses: callers take turns.
    """

    def __init__(self, model: QuantizedModule | FrozenModule) -> None:
        native.check()
        self._model, self._lock = model, Lock()
        self._vocabulary = INT8 if isinstance(model, QuantizedModule) else FLOATS
        self._programs: OrderedDict[torch.Size, native.Program] = OrderedDict()

    def __call__(self, x: Tensor) -> Tensor:
        """Raises NotNativeError for a first input of its shape, as `program` does."""
        with self._lock:
            return self.program(x)(x)

    def program(self, x: Tensor) -> native.Program:
        """The program for inputs of one shape; made when it is first asked for.

        Raises:
            NotNativeError: a layer for which there is no step, or a form of one.
            UnavailableError: this machine has no compiled kernels.
        """
        program = self._programs.get(x.shape)
        if program is None:
            program = self._programs[x.shape] = native.Program(*Walk(self._model, x, self._vocabulary).steps())
            if len(self._programs) > KEPT:
                self._programs.popitem(last=False)
        return program


def to_native(model: QuantizedModule | FrozenModule, x: Tensor) -> NativeModel:
    """The model, with its program for inputs like `x` made. Raises what `NativeModel.program` raises."""
    made = NativeModel(model)
    made.program(x)
    return made


__all__ = ["NativeModel", "NotNativeError", "to_native"]
