"""A QConfig of torch.ao, read by the names of its observers. torch.ao itself is not imported: it is being removed.

torch.ao's QConfig has an `activation` and a `weight`, each an observer class or what `with_args` makes of one: a
wrapper around a `functools.partial`, perhaps several deep.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from pytest_ptq.errors import UnknownNameError, UsageError
from pytest_ptq.qconfig import QConfig

ACTIVATIONS: Mapping[str, str] = {
    "MinMaxObserver": "minmax",
    "MovingAverageMinMaxObserver": "moving_average",
    "HistogramObserver": "histogram",
}
WEIGHTS: Mapping[str, str] = {
    # A weight is seen once: its moving average is what it was that time.
    "MinMaxObserver": "per_tensor",
    "MovingAverageMinMaxObserver": "per_tensor",
    "PerChannelMinMaxObserver": "per_channel",
    "MovingAveragePerChannelMinMaxObserver": "per_channel",
}
SCHEMES: Mapping[str, str] = {"per_tensor_affine": "affine", "per_tensor_symmetric": "symmetric"}
REDUCED: Mapping[tuple[object, object], bool | None] = {(None, None): None, (0, 255): False, (0, 127): True}
"""quant_min and quant_max of activations -> reduce_range, which keeps sums in int16 at half the price of a bit."""
AVERAGING = 0.01
"""torch.ao's own averaging constant, and this package's."""
PLACE = "torch.ao QConfig"


class TorchAoQConfig(Protocol):
    """What this package reads of a QConfig of torch.ao: two observers."""

    @property
    def activation(self) -> Any: ...

    @property
    def weight(self) -> Any: ...


def is_torch_ao(value: object) -> bool:
    """Whether something looks like a QConfig of torch.ao."""
    return not isinstance(value, type) and all(
        getattr(value, part, None) is not None for part in ("activation", "weight")
    )


def translate(value: Any, name: str | None = None) -> QConfig:
    """The QConfig that does what torch.ao's would.

    Args:
        value: a QConfig of torch.ao, or anything with an `activation` and a `weight` like it.
        name: what it shall be called; otherwise after its observers, such as `torch_ao-histogram-per_channel`.

    Raises:
        UnknownNameError: an observer that has no counterpart.
        UsageError: an argument that has none.
    """
    observer, scheme, reduced = _activation(*_observer(value.activation))
    granularity = _weight(*_observer(value.weight))
    marks = ["torch_ao", observer, granularity, *(["symmetric"] if scheme == "symmetric" else [])]
    marks += {True: ["reduced"], False: ["full"], None: []}[reduced]
    return QConfig(
        name or "-".join(marks),
        activation_observer=observer,
        activation_scheme=scheme,
        weight_granularity=granularity,
        reduce_range=reduced,
    )


def _observer(value: Any) -> tuple[str, dict[str, Any]]:
    """Class name and arguments of an observer, of what `with_args` made, or of an instance."""
    arguments: dict[str, Any] = {}
    while True:
        inner = value if isinstance(value, partial) else getattr(value, "p", None)
        if not isinstance(inner, partial):
            break
        arguments = {**inner.keywords, **arguments}  # the outer ones were given later
        value = inner.func
    return str(getattr(value, "__name__", type(value).__name__)), arguments


def _activation(name: str, given: dict[str, Any]) -> tuple[str, str, bool | None]:
    place = f"{PLACE}, activation {name}"
    if name not in ACTIVATIONS:
        raise UnknownNameError("observer of torch.ao for activations", name, ACTIVATIONS, place=PLACE)
    _expect(given, "dtype", ("quint8", "uint8"), "quint8", place, "Activations are stored as uint8.")
    scheme = _word(given.pop("qscheme", "per_tensor_affine"))
    if scheme not in SCHEMES:
        raise UnknownNameError("qscheme", scheme, SCHEMES, place=place)
    limits = given.pop("quant_min", None), given.pop("quant_max", None)
    if limits not in REDUCED:
        raise UsageError(f"quant_min and quant_max are {limits}", place=place, remedy="Give 0 and 255, or 0 and 127.")
    reduced = REDUCED[limits]
    if "reduce_range" in given:
        asked = bool(given.pop("reduce_range"))
        reduced = asked if reduced is None else asked or reduced
    if name == "MovingAverageMinMaxObserver":
        _expect(given, "averaging_constant", (str(AVERAGING),), str(AVERAGING), place, "It is fixed here.")
    _nothing_else(given, place)
    return ACTIVATIONS[name], SCHEMES[scheme], reduced


def _weight(name: str, given: dict[str, Any]) -> str:
    place = f"{PLACE}, weight {name}"
    if name not in WEIGHTS:
        raise UnknownNameError("observer of torch.ao for weights", name, WEIGHTS, place=PLACE)
    granularity = WEIGHTS[name]
    _expect(given, "dtype", ("qint8", "int8"), "quint8", place, "Weights are stored as int8: give dtype=torch.qint8.")
    scheme = f"{granularity}_symmetric"
    _expect(given, "qscheme", (scheme,), f"{granularity}_affine", place, f"Give qscheme=torch.{scheme}.")
    _expect(given, "ch_axis", ("0",), "0", place, "Channels of a weight are its first dimension.")
    limits = given.pop("quant_min", None), given.pop("quant_max", None)
    if limits not in ((None, None), (-128, 127), (-127, 127)):
        raise UsageError(f"quant_min and quant_max are {limits}", place=place, remedy="Give -128 and 127.")
    given.pop("averaging_constant", None)
    _expect(given, "reduce_range", ("False",), "False", place, "Weights have eight bits.")
    _nothing_else(given, place)
    return granularity


def _expect(given: dict[str, Any], key: str, allowed: tuple[str, ...], usual: str, place: str, remedy: str) -> None:
    found = _word(given.pop(key, usual))
    if found not in allowed:
        raise UsageError(f"{key} is {found}", place=place, remedy=remedy)


def _word(value: object) -> str:
    """`torch.per_tensor_affine` -> `per_tensor_affine`, whether it comes as what torch calls it or as text."""
    return str(value).removeprefix("torch.")


def _nothing_else(given: Mapping[str, Any], place: str) -> None:
    # A smallest scale and a device change no result that could be told apart.
    left = sorted(set(given) - {"eps", "factory_kwargs"})
    if left:
        raise UsageError(f"{left[0]} has no counterpart here", place=place, remedy="Take it out.")
