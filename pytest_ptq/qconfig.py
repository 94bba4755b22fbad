"""How a model is to be quantized: frozen values, and the presets people know by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_ptq.errors import UnknownNameError, UsageError

OBSERVERS = ("minmax", "histogram")
_NAME = re.compile(r"[^\W_][\w.+-]{0,99}")
GRANULARITIES = ("per_tensor", "per_channel")


@dataclass(frozen=True)
class QConfig:
    """A post-training static quantization configuration.

    Args:
        name: what it is called in test ids, tables and baselines.
        activation_observer: how an activation's range is chosen: `minmax` takes the extremes, `histogram` the
            range that minimises the squared quantization error.
        weight_granularity: one scale for a whole weight (`per_tensor`) or one an output channel (`per_channel`).
            Weights are symmetric int8, activations affine uint8.
        reduce_range: keep activations within seven bits, so that CPUs that accumulate pairs of products in
            saturating int16 cannot overflow. None follows the CPU: on without VNNI, off with it.
        fp32_layers: module paths that stay in fp32.
    """

    name: str
    activation_observer: str = "histogram"
    weight_granularity: str = "per_channel"
    reduce_range: bool | None = None
    fp32_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # It ends in test ids, tables, file names and spreadsheets.
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            remedy = "Use at most 100 letters, digits, '_', '-', '+' and '.', beginning with a letter or digit."
            raise UsageError(f"{str(self.name)[:100]!r} cannot name a qconfig", remedy=remedy)
        _check("activation observer", self.activation_observer, OBSERVERS, self.name)
        _check("weight granularity", self.weight_granularity, GRANULARITIES, self.name)
        if isinstance(self.fp32_layers, str):  # type: ignore[unreachable]  # users are not all type-checked
            raise UsageError("fp32_layers is a single string", place=f"qconfig {self.name}", remedy="Give a tuple.")


def _check(kind: str, value: str, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise UnknownNameError(kind, value, known, place=f"qconfig {name}")


MINMAX = QConfig("minmax", activation_observer="minmax", weight_granularity="per_tensor")
X86 = QConfig("x86", activation_observer="histogram", weight_granularity="per_channel")

PRESETS: Mapping[str, QConfig] = {MINMAX.name: MINMAX, X86.name: X86}
ALIASES: Mapping[str, str] = {"default": "minmax", "fbgemm": "x86"}


def get_qconfig(name: str | QConfig, extra: Mapping[str, QConfig] | None = None) -> QConfig:
    """The preset called `name`, one registered in `extra`, or `name` itself when it already is a QConfig."""
    if isinstance(name, QConfig):
        return name
    table = {**PRESETS, **(extra or {})}
    found = table.get(ALIASES.get(name, name))
    if found is None:
        raise UnknownNameError("qconfig", name, [*table, *ALIASES])
    return found
