"""Int8 weights that several models have in common: the qconfigs of a sweep differ in their activations above all."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass

from torch import Tensor
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from pytest_ptq.engine.affine import quantize_weight, weight_scales

Quantized = tuple[Tensor, Tensor]
"""An int8 weight and its scales."""


@dataclass(frozen=True)
class _Made:
    """What was made of a weight, as long as somebody has it, and how often each of the three was written to by then."""

    quantized: tuple[TensorWeakRef, ...]
    versions: tuple[int, ...]

    def read(self, weight: Tensor) -> Quantized | None:
        found, scales = (made() for made in self.quantized)
        if found is None or scales is None or self.versions != _versions((weight, found, scales)):
            return None
        return found, scales


_MADE: MutableMapping[Tensor, dict[tuple[bool, int | None], _Made]] = WeakTensorKeyDictionary()
"""By float weight (the tensor itself, not its values), then by how it is quantized. It keeps no tensor alive."""


def quantized_weight(weight: Tensor, per_channel: bool, largest: int | None = None) -> Quantized:
    """`quantize_weight` with `weight_scales`: the very tensors that an earlier call made, while somebody has them.

    Nobody writes to them: who wants other weights makes other tensors. Where it was done all the same, to them or to
    the float weight, they are made anew.
    """
    how = (per_channel, largest)
    made = _MADE.get(weight, {}).get(how)
    found: Quantized | None = made.read(weight) if made is not None else None
    if found is None:
        scales = weight_scales(weight, per_channel, largest)
        found = quantize_weight(weight, scales), scales
        versions = _versions((weight, *found))
        if versions is not None:
            _MADE.setdefault(weight, {})[how] = _Made(tuple(map(TensorWeakRef, found)), versions)
    return found


def _versions(tensors: Iterable[Tensor]) -> tuple[int, ...] | None:
    """How often each was written to; None where one was made in inference mode, in which nobody counts."""
    counted = tuple(tensors)
    return None if any(t.is_inference() for t in counted) else tuple(t._version for t in counted)
