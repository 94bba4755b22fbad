"""What a row of the op table is made of."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from pytest_ptq.engine.affine import QParams


class Kind(enum.Enum):
    WEIGHTED = "has weights: quantizes what it reads, and gives its output a range of its own"
    ELEMENTWISE = "int8 when all it reads is int8; its output has a range of its own"
    SHARES = "works on stored integers; its output keeps the scale and zero point of its input"
    IDENTITY = "does nothing in eval mode: removed"
    FLOAT = "stays in fp32, for the reason that `when` gives"


@dataclass(frozen=True)
class Call:
    """One use of an op.

    Args:
        layer: the layer it calls, if any.
        arguments: those that are not tensors of the graph, by name; numbers that the graph computes are None.
        reads: how many tensors of the graph it reads.
        per_channel: weights have one scale an output channel.
        reduce_range: no two products of weights may leave int16.
        computed: an argument is a number that the graph computes from sizes.
        apply: the operation itself, on a float tensor in place of the one it reads.
    """

    layer: nn.Module | None
    arguments: dict[str, Any] = field(default_factory=dict)
    reads: int = 1
    per_channel: bool = True
    computed: bool = False
    apply: Callable[[Tensor], Any] = lambda x: x
    reduce_range: bool = False

    def given(self, name: str, usual: Any = None) -> Any:
        """An argument, whether it stands in the layer or in the call."""
        if self.layer is not None:
            return getattr(self.layer, name, usual)
        return self.arguments.get(name, usual)


Lower = Callable[[Call, Sequence[QParams], QParams | None], nn.Module]
"""lower(call, scale and zero point of each tensor read, those of the output or None for fp32) -> int8 layer."""


@dataclass(frozen=True)
class Op:
    """A row of the table.

    Args:
        name: canonical name.
        kind: what quantization does with it.
        modules, functions, methods: how it can stand in a model.
        parameters: names of the arguments behind the tensors, for functions and methods.
        when: says why a use cannot be int8 (empty: it can).
        lower: makes the int8 layer; without one the operation itself runs on stored integers.
        activation: the name under which a layer before it can take it in, or what tells it of a use.
        moves: only moves values about: in fp32 when nothing that reads the result is int8.
        mixes: takes fp32 beside int8, which is quantized for it.
        elsewhere: qualified names of further modules and functions, from packages that take long to import and need
            not be there: whoever uses one has imported it.
    """

    name: str
    kind: Kind
    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()
    methods: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    when: Callable[[Call], str] = lambda call: ""
    lower: Lower | None = None
    activation: str | Callable[[Call], str | None] | None = None
    moves: bool = False
    mixes: bool = False
    elsewhere: tuple[str, ...] = ()

    def fuses_as(self, call: Call) -> str | None:
        """The activation that a layer before this use can take in, if any."""
        return self.activation(call) if callable(self.activation) else self.activation
