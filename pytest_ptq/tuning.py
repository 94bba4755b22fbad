"""The cheapest fallback: which few layers have to stay in fp32 for a qconfig to keep its limits.

Every layer that multiplies is ranked on calibration images by the noise that it alone, in int8, puts into the output.
The k noisiest stay in fp32; the smallest k that keeps the limits is found by doubling and then by halving, so that a
full evaluation is spent on some 2 log2 k candidates, and not on every layer as a sweep does. Noise of different layers
adds up in power, nearly (they err independently), which is what makes one ranking serve all k. A few of the chosen
layers are tried without, in case the ranking was wrong about them, and a few with a much cheaper one in their place:
of equally many layers those cost least time that multiply least. Multiply-accumulates stand for the time, for they
are known without taking any.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pytest_ptq.errors import MeasurementError, QuantizationError
from pytest_ptq.metrics import Measurement
from pytest_ptq.qconfig import QConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_ptq.runner import SuiteRun

RANKING_IMAGES = 32
PRUNED = 3
"""How many of the chosen layers are tried without, the least noisy first."""
SWAPPED = 2
"""How many of the chosen layers are tried with a cheaper one instead, those that multiply most first."""
CHEAPER = 0.5
"""At most this part of a layer's multiply-accumulates has what is tried in its place; less would save nothing."""

Meets: TypeAlias = Callable[[Mapping[str, Measurement]], bool]
"""Whether measurements keep all limits."""


class Memory(Protocol):
    """What was found before: an interrupted search goes on where it was."""

    def noise(self, layer: str) -> float | None: ...

    def remember_noise(self, layer: str, value: float) -> None: ...

    def evaluation(self, layers: Sequence[str]) -> Mapping[str, Measurement] | None: ...

    def remember_evaluation(self, layers: Sequence[str], found: Mapping[str, Measurement]) -> None: ...


@dataclass(frozen=True)
class Tuned:
    """The outcome of a search.

    Args:
        qconfig: with the layers that stay in fp32; of a failed search, the last one tried.
        layers: these, noisiest first.
        meets: whether it keeps the limits.
        measured: what the full evaluation of it found.
        evaluations: full evaluations that the search needed, remembered ones included.
        candidates: layers there were to choose from; a sweep evaluates each of them.
    """

    qconfig: QConfig
    layers: tuple[str, ...]
    meets: bool
    measured: Mapping[str, Measurement]
    evaluations: int
    candidates: int

    def source(self) -> str:
        """The qconfig as it is pasted into a suite."""
        usual = {f.name: f.default for f in fields(QConfig)}
        given = {f.name: getattr(self.qconfig, f.name) for f in fields(QConfig)}
        told = [f"{name}={value!r}" for name, value in given.items() if name != "name" and value != usual[name]]
        return f"QConfig({', '.join([repr(self.qconfig.name), *told])})"


def tune(run: SuiteRun, qconfig: QConfig, meets: Meets, memory: Memory) -> Tuned:
    """Search the fewest layers that have to stay in fp32, and of equally many those that multiply least.

    Args:
        run: the suite, on its data.
        qconfig: what is to be mended; layers that it keeps in fp32 already stay there.
        meets: judges a full evaluation.
        memory: remembers noise and evaluations.

    Raises:
        PTQError: the suite cannot be quantized or measured.
    """
    search = _Search(run, qconfig, meets, memory)
    if search.holds(()):
        return search.outcome((), meets=True)
    ranked = rank(run, qconfig, memory)
    most = len(ranked) - 1  # with all of them in fp32, nothing would be quantized
    last, k = 0, 1
    while k < most and not search.holds(ranked[:k]):
        last, k = k, 2 * k
    k = min(k, most)
    if k < 1 or not search.holds(ranked[:k]):
        return search.outcome(ranked[: max(k, 0)], meets=False)
    while k - last > 1:
        middle = (last + k) // 2
        last, k = (last, middle) if search.holds(ranked[:middle]) else (middle, k)
    chosen = ranked[:k]
    for layer in list(reversed(chosen[:-1]))[:PRUNED]:  # without the last one it fails: that was tried
        without = tuple(name for name in chosen if name != layer)
        if search.holds(without):
            chosen = without
    return search.outcome(_cheaper(search, chosen, ranked, layer_macs(run)), meets=True)


def _cheaper(
    search: _Search, chosen: tuple[str, ...], ranked: tuple[str, ...], macs: Mapping[str, int]
) -> tuple[str, ...]:
    """Equally many layers that multiply less, where they keep the limits as well."""
    dearest = sorted(chosen, key=lambda layer: -macs[layer])
    for layer in dearest[:SWAPPED]:
        others = (other for other in ranked if other not in chosen and macs[other] <= CHEAPER * macs[layer])
        other = next(others, None)
        if other is not None:
            swapped = tuple(name for name in ranked if name == other or (name in chosen and name != layer))
            chosen = swapped if search.holds(swapped) else chosen
    return chosen


class _Search:
    """Full evaluations, each done once."""

    def __init__(self, run: SuiteRun, qconfig: QConfig, meets: Meets, memory: Memory) -> None:
        self._run, self._qconfig, self._meets, self._memory = run, qconfig, meets, memory
        self._found: dict[frozenset[str], Mapping[str, Measurement]] = {}
        self._ranked = 0

    def holds(self, layers: Sequence[str]) -> bool:
        return self._meets(self._evaluated(layers))

    def _evaluated(self, layers: Sequence[str]) -> Mapping[str, Measurement]:
        key = frozenset(layers)
        if key not in self._found:
            found = self._memory.evaluation(layers)
            if found is None:
                found = self._run.measure("accuracy", _keeping(self._qconfig, layers))
                self._memory.remember_evaluation(layers, found)
            self._found[key] = found
        return self._found[key]

    def outcome(self, layers: Sequence[str], *, meets: bool) -> Tuned:
        measured = self._evaluated(layers)
        candidates = len(weighted_layers(self._run, self._qconfig))
        qconfig = _keeping(self._qconfig, layers)
        return Tuned(qconfig, tuple(layers), meets, measured, len(self._found), candidates)


def rank(run: SuiteRun, qconfig: QConfig, memory: Memory) -> tuple[str, ...]:
    """Layers that multiply in int8, the one whose noise reaches the output most first; of equals, the cheaper one."""
    from pytest_ptq.engine.inspect import CAP_DB

    layers = weighted_layers(run, qconfig)
    x, plain = _images(run), _without_corrections(qconfig)
    noise = {}
    for layer in run.progress(layers, f"ranking layers of {qconfig.name}", len(layers)):
        known = memory.noise(layer)
        if known is None:
            known = -CAP_DB
            with contextlib.suppress(QuantizationError):  # its name holds all the others: nothing can be told of it
                known = _noise_db(run, _keeping(plain, [other for other in layers if other != layer]), x)
            memory.remember_noise(layer, known)
        noise[layer] = known
    macs = layer_macs(run)
    return tuple(sorted(layers, key=lambda layer: (-noise[layer], macs[layer])))


def layer_macs(run: SuiteRun) -> Mapping[str, int]:
    """Multiply-accumulates of each layer for one image."""
    from pytest_ptq.engine.inspect import count_macs

    names = {node.name: node.meta.get("layer", node.name) for node in run.fused.graph.nodes}
    found: dict[str, int] = {}
    for node, macs in count_macs(run.fused, _images(run)[:1]).items():
        found[names[node]] = found.get(names[node], 0) + macs
    return found


def weighted_layers(run: SuiteRun, qconfig: QConfig) -> tuple[str, ...]:
    """Layers that multiply in int8, in the order of the graph."""
    from pytest_ptq.engine.graph import layer_of
    from pytest_ptq.engine.modules import QuantizedWeighted

    quantized = run.quantized(qconfig)
    found = [n.meta["layer"] for n in quantized.graph.nodes if isinstance(layer_of(quantized, n), QuantizedWeighted)]
    return tuple(dict.fromkeys(found))


def _noise_db(run: SuiteRun, qconfig: QConfig, x: Tensor) -> float:
    """Noise over signal in the output, in dB: larger is worse."""
    import torch

    from pytest_ptq.engine.inspect import sqnr_db

    with torch.inference_mode():
        return -sqnr_db(run.fp32(x), run.quantized(qconfig)(x))


def _images(run: SuiteRun) -> Tensor:
    from pytest_ptq.engine.calibrate import check_batch

    for number, batch in enumerate(run.dataset.calibration()):
        return check_batch(batch, number)[:RANKING_IMAGES]
    raise MeasurementError("there is no calibration image", place=run.suite.name)


def _keeping(qconfig: QConfig, layers: Sequence[str]) -> QConfig:
    """`qconfig` with more layers in fp32, under a name of its own."""
    if not layers:
        return qconfig
    return replace(qconfig, name=f"{qconfig.name}-tuned", fp32_layers=(*qconfig.fp32_layers, *layers))


def _without_corrections(qconfig: QConfig) -> QConfig:
    """Corrections of the int8 model cost time for each candidate, and change little in the order of the layers."""
    known = {f.name for f in fields(QConfig)}
    off: dict[str, Any] = {"bias_correction": False, "rounding": None}
    changed = {name: value for name, value in off.items() if name in known}
    return replace(qconfig, **changed)
