"""Suite x QConfig -> Measurements."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ptq.errors import PTQError, UnknownNameError
from pytest_ptq.metrics import LayerError, Measurement, Parting
from pytest_ptq.own_int8 import OwnInt8
from pytest_ptq.qconfig import RUNTIMES, QConfig, quantization_of
from pytest_ptq.runner.agreement import AgreementWithTorch
from pytest_ptq.runner.as_brought import AsBrought
from pytest_ptq.runner.evaluation import Evaluation
from pytest_ptq.runner.fastest import Fastest, find_fastest
from pytest_ptq.runner.in_runtime import InRuntime
from pytest_ptq.runner.in_torch import InTorch
from pytest_ptq.runner.models import SuiteModels
from pytest_ptq.runner.place import Place

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_ptq.measure.latency import LatencySamples

WORST_LAYERS = 3
LAYER_IMAGES = 64
"""How many calibration images the per-layer errors are computed on."""


class SuiteRun(SuiteModels):
    """One suite on one kind of data. Whatever is expensive is computed when first asked for, once, and kept.

    Takes what `SuiteModels` does.
    """

    timed_together: tuple[QConfig, ...] = ()
    """Whose latency will be asked for: the same processes time them all."""

    @cached_property
    def evaluation(self) -> Evaluation:
        return Evaluation(self)

    @cached_property
    def _in_torch(self) -> InTorch:
        return InTorch(self, self.evaluation)

    @cached_property
    def _elsewhere(self) -> dict[str, InRuntime]:
        return {}

    def place(self, qconfig: QConfig) -> Place:
        """Where the model of a qconfig runs. Raises InstallationError: what runs it is not installed."""
        if isinstance(qconfig, OwnInt8):
            return self.as_brought(qconfig)
        return self._place_of(qconfig.runtime)

    def _place_of(self, runtime: str) -> Place:
        return self._in_torch if runtime == RUNTIMES[0] else self.in_runtime(runtime)

    def as_brought(self, own: OwnInt8) -> AsBrought:
        """A model of the suite's `int8`. Raises InstallationError: what runs it is not installed."""
        if own not in self._brought:
            self._brought[own] = AsBrought(self, self.evaluation, own, self._place_of(own.runtime))
        return self._brought[own]

    def unknown(self, gate: str, qconfig: QConfig) -> str | None:
        """Why what a gate asks cannot be known of a model that somebody else made, a clause; None where it can."""
        return self.as_brought(qconfig).unknown(gate) if isinstance(qconfig, OwnInt8) else None

    @cached_property
    def _brought(self) -> dict[OwnInt8, AsBrought]:
        return {}

    def in_runtime(self, runtime: str) -> InRuntime:
        """The suite's models in a runtime other than torch. Raises InstallationError, UnknownNameError."""
        if runtime not in self._elsewhere:
            self._elsewhere[runtime] = InRuntime(self, self.evaluation, runtime)
        return self._elsewhere[runtime]

    def fastest(self, qconfig: QConfig) -> Fastest:
        """Which runtime the int8 model of a qconfig is fastest in, measured once. Raises PTQError: none runs it."""
        key = quantization_of(qconfig)
        if key not in self._fastest:
            self._fastest[key] = find_fastest(self, lambda runtime: self.in_runtime(runtime).files, key)
        return self._fastest[key]

    def fastest_ms(self, qconfig: QConfig) -> Mapping[str, float]:
        """Median milliseconds of the int8 model in each runtime that runs it."""
        return self.fastest(qconfig).ms

    @cached_property
    def _fastest(self) -> dict[QConfig, Fastest]:
        return {}

    @cached_property
    def _measured(self) -> dict[tuple[str, QConfig], Mapping[str, Measurement]]:
        return {}

    def measure(self, gate: str, qconfig: QConfig) -> Mapping[str, Measurement]:
        """What a gate is judged by, and what belongs beside it, keyed by metric.

        Args:
            gate: `accuracy`, `size`, `latency`, `coverage` or `agreement`.
        """
        table: Mapping[str, Callable[[QConfig], Mapping[str, Measurement]]] = {
            "accuracy": lambda q: self.place(q).accuracy(q),
            "size": lambda q: self.place(q).size(q),
            "latency": self._latency_ratio,
            "coverage": lambda q: self.place(q).coverage(q),
            "agreement": self._agreement,
        }
        if gate not in table:
            raise UnknownNameError("gate", gate, table)
        if (gate, qconfig) not in self._measured:
            self._measured[gate, qconfig] = table[gate](qconfig)
        return self._measured[gate, qconfig]

    def _agreement(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        return self._beside_torch(qconfig).measure(qconfig)

    def parting(self, qconfig: QConfig, images: Tensor) -> Parting:
        """The first layer in which the runtime of `qconfig` and torch part on `images` (N, ...)."""
        return self._beside_torch(qconfig).parting(qconfig, images)

    def _beside_torch(self, qconfig: QConfig) -> AgreementWithTorch:
        return AgreementWithTorch(self, self.evaluation, self.in_runtime(qconfig.runtime))

    def latency_samples(self, qconfig: QConfig) -> LatencySamples:
        """fp32 and int8 times at the suite's latency shape, on random input, from several fresh processes."""
        place = self.place(qconfig)
        name = place.stored(qconfig)
        together = []
        for other in self.timed_together:
            # What runs elsewhere is timed by itself: thread pools disturb one another.
            if other.runtime == qconfig.runtime:
                # A model that cannot be made is the trouble of whoever asks for it.
                with contextlib.suppress(PTQError):
                    together.append(self.place(other).stored(other))
        return place.timing.samples(name, together)

    def latency_pairs(self, qconfig: QConfig) -> tuple[tuple[float, ...], ...]:
        """int8 / fp32 of each timed pair, one tuple a process: what the ratio with its interval is made of."""
        from pytest_ptq.measure.latency import log_ratios

        return tuple(
            tuple(float(f"{math.exp(log):.5g}") for log in log_ratios(pairs))
            for pairs in self.latency_samples(qconfig).processes
        )

    def extend_latency(self, qconfig: QConfig) -> bool:
        """Take the second, longer look at a latency that the first left open; False when there is none left."""
        timing, name = self.place(qconfig).timing, self.place(qconfig).stored(qconfig)
        if not timing.can_extend(name):
            return False
        timing.extend(name)
        self._measured.pop(("latency", qconfig), None)
        return True

    def _latency_ratio(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        from pytest_ptq.measure.latency_measurements import eager, to_measurements

        return {**eager(self._eager_ms), **to_measurements(self.latency_samples(qconfig))}

    @cached_property
    def _eager_ms(self) -> tuple[float, ...]:
        """The model as its user runs it, without any of the care that fp32 gets here; in this process."""
        return self._in_torch.timing.alone(self.model)

    def layers(self, qconfig: QConfig) -> tuple[LayerError, ...]:
        """Every int8 layer in graph order; the few that lose most alone with what the logits gain in fp32.

        What outputs that are no logits gain is not told.
        """
        from pytest_ptq.engine.inspect import gains, inspect_layers

        if isinstance(qconfig, OwnInt8):  # nobody knows which layer of it stands for which
            return ()
        quantized, x = self.quantized(qconfig), self.first_images(LAYER_IMAGES)
        prepared, calibration = self._calibrated(qconfig)
        rows = inspect_layers(prepared.fused, quantized, x)
        if not self.suite.top1:
            return rows
        worst = sorted(rows, key=LayerError.rank)[:WORST_LAYERS]
        told = {row.name: row for row in gains(prepared.fused, quantized, calibration, worst, x)}
        return tuple(told.get(row.name, row) for row in rows)

    def fp32_layers(self, qconfig: QConfig) -> tuple[tuple[str, str], ...]:
        """(layer, reason) of what stayed in fp32."""
        return () if isinstance(qconfig, OwnInt8) else self.quantized(qconfig).plan.fp32_layers

    def reduce_range(self, qconfig: QConfig) -> bool | None:
        """Whether no sum of two products can leave int16; None where nobody knows."""
        return None if isinstance(qconfig, OwnInt8) else self.quantized(qconfig).plan.reduce_range

    def save(self, qconfig: QConfig, folder: Path) -> Path:
        """Write the file that is judged: `<suite>_<qconfig>.safetensors`, or `.onnx` where another runtime reads it."""
        return self.place(qconfig).save(qconfig, folder)
