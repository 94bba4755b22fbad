"""How a model is to be quantized: frozen values, and the presets people know by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_ptq.errors import UnknownNameError, UsageError

OBSERVERS = ("minmax", "moving_average", "histogram", "percentile", "entropy", "mse")
EXTREMES = frozenset({"minmax", "moving_average"})
"""Observers that need no histogram."""
SCHEMES = ("affine", "symmetric")
WEIGHT_OBSERVERS = ("minmax", "mse")
PERCENTILE = 99.999
"""Percent of the values that the percentile observer's range holds, unless told otherwise."""
_NAME = re.compile(r"[^\W_][\w.+-]{0,99}")
GRANULARITIES = ("per_tensor", "per_channel")
RUNTIMES = ("torch", "onnxruntime", "openvino")
FASTEST = "fastest"
"""In place of a runtime: the one of them that was measured to be fastest. What runs always has one of `RUNTIMES`."""
ALL = "all"
"""In a list of runtimes: all of `RUNTIMES`."""


@dataclass(frozen=True)
class QConfig:
    """A post-training static quantization configuration.

    Args:
        name: what it is called in test ids, tables and baselines.
        activation_observer: how an activation's range is chosen. `minmax` takes the extremes, `moving_average` those
            of an average batch, `percentile` what holds all but a few values, `entropy` what loses least information,
            `mse` what makes the squared error smallest, and `histogram` the same with clipping weighed ten times.
        weight_granularity: one scale for a whole weight (`per_tensor`) or one an output channel (`per_channel`).
            Weights are symmetric int8, activations uint8.
        reduce_range: keep activations (half a bit less) and weights (what neighbours need) so small that no sum of two
            products leaves int16, in which CPUs without VNNI add them and saturate. None follows the CPU: on without
            VNNI, off with it.
        fp32_layers: module paths that stay in fp32.
        activation_scheme: `affine` puts zero where the range asks for it; `symmetric` in the middle of the integers,
            or at 0 for what has no negative values.
        percentile: percent of the values that the range holds; for the `percentile` observer only, 99.999 by default.
        observer_search: further activation observers to try; the one stays whose outputs have the highest SQNR on
            calibration images. With a histogram for one of them, `activation_observer` has to collect one.
        weight_observer: `minmax` takes a weight's extremes, `mse` clips it where its squared error is smallest.

        bias_correction: take the shift that quantization gives each channel's mean into the biases, layer by layer.
        smooth_quant: the alphas that are tried for each tensor to move what is hard to quantize into the weights behind
            it (0 to 1; SmoothQuant's own is 0.5); none by default.
        equalization: make the weights of neighbouring layers equally large, channel by channel, before anything else.
        rounding: seconds that may be spent on searching which weights to round up or down (AdaRound); what is not
            reached within them, and everything by default, is rounded to the nearest.
        runtime: where the int8 model runs. It changes nothing in how the model is quantized: every runtime is given the
            same scales, zero points and integers. `fastest` stands for whichever a measurement finds to be that.

    Raises:
        UsageError: a value that cannot be, or one that would have no effect.
    """

    name: str
    activation_observer: str = "histogram"
    weight_granularity: str = "per_channel"
    reduce_range: bool | None = None
    fp32_layers: tuple[str, ...] = ()
    activation_scheme: str = "affine"
    percentile: float | None = None
    observer_search: tuple[str, ...] = ()
    weight_observer: str = "minmax"
    bias_correction: bool = False
    smooth_quant: tuple[float, ...] = ()
    equalization: bool = False
    rounding: float | None = None
    runtime: str = "torch"

    @property
    def reads_batches_again(self) -> bool:
        """Whether a correction needs calibration batches beside the statistics that were collected from them."""
        corrects = bool(self.smooth_quant) or self.bias_correction or self.rounding is not None
        return corrects or bool(self.observer_search)

    def __post_init__(self) -> None:
        # It ends in test ids, tables, file names and spreadsheets.
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            remedy = "Use at most 100 letters, digits, '_', '-', '+' and '.', beginning with a letter or digit."
            raise UsageError(f"{str(self.name)[:100]!r} cannot name a qconfig", remedy=remedy)
        _check("activation observer", self.activation_observer, OBSERVERS, self.name)
        _check("weight granularity", self.weight_granularity, GRANULARITIES, self.name)
        _check("activation scheme", self.activation_scheme, SCHEMES, self.name)
        _check("weight observer", self.weight_observer, WEIGHT_OBSERVERS, self.name)
        _check("runtime", self.runtime, (*RUNTIMES, FASTEST), self.name)
        _check_name(self)
        _check_search(self)
        _check_percentile(self)
        _check_corrections(self)
        _check_layers(self)


def _check(kind: str, value: str, known: tuple[str, ...], name: str) -> None:
    if not isinstance(value, str):
        raise UsageError(f"the {kind} is {value!r}", place=f"qconfig {name}", remedy=f"Known: {', '.join(known)}.")
    if value not in known:
        raise UnknownNameError(kind, value, known, place=f"qconfig {name}")


def in_runtime(qconfig: QConfig, runtime: str) -> QConfig:
    """The same quantization, run in `runtime`: `x86` becomes `x86-openvino`; in torch it keeps its name."""
    name = qconfig.name if runtime == RUNTIMES[0] else f"{qconfig.name}-{runtime}"
    return replace(qconfig, name=name, runtime=runtime)


def in_runtimes(qconfigs: Iterable[QConfig], runtimes: Iterable[str]) -> tuple[QConfig, ...]:
    """Each of `qconfigs` in each of `runtimes`, in that order; one that says itself where it runs stays there.

    Raises UsageError for two that would have one name.
    """
    places = dict.fromkeys(place for name in runtimes for place in (RUNTIMES if name == ALL else (name,)))
    found = dict.fromkeys(
        one for q in qconfigs for one in ([in_runtime(q, p) for p in places] if q.runtime == RUNTIMES[0] else [q])
    )
    names = [qconfig.name for qconfig in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two qconfigs are called {twice!r}", remedy="Tests are told apart by the name: change one.")
    return tuple(found)


def base_name(name: str) -> str:
    """The name of a qconfig without the runtime that `in_runtime` has put behind it."""
    return next((name.removesuffix(end) for end in _suffixes() if name.endswith(end)), name)


def check_runtimes(names: object, place: str | None = None) -> tuple[str, ...]:
    """`names`, where each is a runtime, `fastest` or `all`. Raises UsageError or UnknownNameError."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        remedy = f'Write ("{names}",).' if isinstance(names, str) and names else 'Give names, such as ("torch",).'
        raise UsageError(f"runtimes is {names!r}", place=place, remedy=remedy)
    for name in names:
        if name not in (*RUNTIMES, FASTEST, ALL):
            raise UnknownNameError("runtime", str(name), (*RUNTIMES, FASTEST, ALL), place=place)
    return tuple(dict.fromkeys(names))


def quantization_of(qconfig: QConfig) -> QConfig:
    """What a qconfig shares with the same one in every other runtime: how the model is quantized."""
    return replace(qconfig, name=base_name(qconfig.name), runtime=RUNTIMES[0])


def _suffixes() -> tuple[str, ...]:
    return tuple(f"-{runtime}" for runtime in (*RUNTIMES[1:], FASTEST))


def _check_name(qconfig: QConfig) -> None:
    """Tests, baselines and records tell runtimes apart by the end of a name: it may not say another one than it is."""
    ends = next((s.removeprefix("-") for s in _suffixes() if qconfig.name.endswith(s)), None)
    # The fastest is one of the others as soon as it was measured.
    if ends not in (None, FASTEST, qconfig.runtime):
        message = f"the name says {ends}, and the model would run in {qconfig.runtime}"
        remedy = f'Write runtime="{ends}", or another name.'
        raise UsageError(message, place=f"qconfig {qconfig.name}", remedy=remedy)


def _check_search(qconfig: QConfig) -> None:
    search, place = qconfig.observer_search, f"qconfig {qconfig.name}"
    if not isinstance(search, tuple):
        raise UsageError(f"observer_search is {search!r}", place=place, remedy="Give a tuple of observers.")
    for name in search:
        _check("activation observer", name, OBSERVERS, qconfig.name)
    if set(search) == {qconfig.activation_observer}:
        message = f"observer_search has no effect: it names nothing but {qconfig.activation_observer}"
        raise UsageError(message, place=place, remedy="Name other observers.")
    if qconfig.activation_observer in EXTREMES and set(search) - EXTREMES:
        first = next(name for name in search if name not in EXTREMES)
        message = f"the {qconfig.activation_observer} observer collects no histogram, which {first} needs"
        raise UsageError(message, place=place, remedy=f'Write activation_observer="{first}", and search the other.')


def _check_percentile(qconfig: QConfig) -> None:
    percentile, place = qconfig.percentile, f"qconfig {qconfig.name}"
    if percentile is None:
        return
    if "percentile" not in (qconfig.activation_observer, *qconfig.observer_search):
        message = f"percentile has no effect on the {qconfig.activation_observer} observer"
        raise UsageError(message, place=place, remedy='Write activation_observer="percentile", or take it out.')
    # Written so that NaN is refused too.
    if isinstance(percentile, bool) or not isinstance(percentile, int | float) or not 50 < percentile <= 100:
        remedy = "Give percent above 50 and up to 100, such as 99.99."
        raise UsageError(f"percentile is {percentile!r}", place=place, remedy=remedy)


def _check_layers(qconfig: QConfig) -> None:
    layers, reduced, place = qconfig.fp32_layers, qconfig.reduce_range, f"qconfig {qconfig.name}"
    if not isinstance(layers, tuple) or not all(isinstance(layer, str) for layer in layers):
        remedy = 'Give a tuple of module paths, such as ("features.0",).'
        raise UsageError(f"fp32_layers is {layers!r}", place=place, remedy=remedy)
    # By identity: 1 is equal to True, and would be another qconfig to whatever compares how they are written.
    if not (reduced is None or reduced is True or reduced is False):
        raise UsageError(f"reduce_range is {reduced!r}", place=place, remedy="Give True, False or None.")


def _check_corrections(qconfig: QConfig) -> None:
    place = f"qconfig {qconfig.name}"
    for field in ("bias_correction", "equalization"):
        if not isinstance(getattr(qconfig, field), bool):
            message = f"{field} is {getattr(qconfig, field)!r}"
            raise UsageError(message, place=place, remedy="Give True or False.")
    seconds = qconfig.rounding
    # Written so that NaN is refused too.
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0):
        raise UsageError(f"rounding is {seconds!r}", place=place, remedy="Give seconds above 0, or None.")
    alphas = qconfig.smooth_quant
    if not isinstance(alphas, tuple) or not all(
        isinstance(a, int | float) and not isinstance(a, bool) and 0 <= a <= 1 for a in alphas
    ):
        remedy = "Give a tuple of alphas from 0 to 1, such as (0.5,)."
        raise UsageError(f"smooth_quant is {alphas!r}", place=place, remedy=remedy)


MINMAX = QConfig("minmax", activation_observer="minmax", weight_granularity="per_tensor")
X86 = QConfig("x86", activation_observer="histogram", weight_granularity="per_channel")
PERCENTILES = QConfig("percentile", activation_observer="percentile")
ENTROPY = QConfig("entropy", activation_observer="entropy")
MSE = QConfig("mse", activation_observer="mse")
X86_BIAS = QConfig("x86+bias", bias_correction=True)
BEST = QConfig("best", observer_search=("minmax", "percentile", "mse"), rounding=180.0, bias_correction=True)

PRESETS: Mapping[str, QConfig] = {q.name: q for q in (MINMAX, X86, PERCENTILES, ENTROPY, MSE, X86_BIAS, BEST)}
ALIASES: Mapping[str, str] = {"default": "minmax", "fbgemm": "x86"}


def get_qconfig(name: str | QConfig | object, extra: Mapping[str, object] | None = None) -> QConfig:
    """The preset called `name`, one registered in `extra`, or `name` itself when it already is a QConfig.

    `x86-openvino` is the preset `x86` in another runtime.
    A QConfig of torch.ao is translated by the names of its observers.

    Raises:
        UnknownNameError: no preset and no registered qconfig has that name.
        UsageError: something else, or a QConfig of torch.ao without counterpart.
    """
    if not isinstance(name, str):
        return _as_qconfig(name)
    table = {**PRESETS, **(extra or {})}
    found = table.get(ALIASES.get(name, name))
    base = base_name(name)
    if found is None and base != name and ALIASES.get(base, base) in table:
        return in_runtime(get_qconfig(base, extra), name.removeprefix(f"{base}-"))
    if found is None:
        raise UnknownNameError("qconfig", name, [*table, *ALIASES])
    return _as_qconfig(found, name)


def _as_qconfig(value: object, name: str | None = None) -> QConfig:
    from pytest_ptq.torch_ao import is_torch_ao, translate

    if isinstance(value, QConfig):
        return value
    if is_torch_ao(value):
        return translate(value, name)
    remedy = f"Give a QConfig or a name: {', '.join(PRESETS)}."
    raise UsageError(f"a {type(value).__name__} is no qconfig", remedy=remedy)
