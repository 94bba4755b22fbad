"""A model as programs of compiled kernels, one for each shape of input that it meets."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import torch
from torch import Tensor

from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.deployment import emit, emit_float
from pytest_ptq.engine.deployment.rearrange import SHAPES
from pytest_ptq.engine.deployment.walk import NotNativeError, Vocabulary, Walk
from pytest_ptq.engine.freeze import FrozenModule
from pytest_ptq.engine.kernels import native

KEPT = 4
"""Programs that are kept: each has packed weights of its own, and memory for its activations."""

VOCABULARY = Vocabulary({**emit.LAYERS, **emit_float.LAYERS}, SHAPES, emit_float.OPS)
"""Of int8 models and frozen ones alike: an int8 model may keep layers in fp32."""


class NativeModel:
    """Called like the model, with float32 images on the CPU.

    A program has its tensors at fixed addresses: callers take turns.
    """

    def __init__(self, model: QuantizedModule | FrozenModule) -> None:
        native.check()
        self._model, self._lock = model, Lock()
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
            program = self._programs[x.shape] = native.Program(*Walk(self._model, x, VOCABULARY).steps())
            if len(self._programs) > KEPT:
                self._programs.popitem(last=False)
        return program


def to_native(model: QuantizedModule | FrozenModule, x: Tensor) -> NativeModel:
    """The model, with its program for inputs like `x` made. Raises what `NativeModel.program` raises."""
    made = NativeModel(model)
    made.program(x)
    return made


__all__ = ["NativeModel", "NotNativeError", "to_native"]
