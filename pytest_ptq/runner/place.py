"""What every place where int8 models run is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_ptq.metrics import Measurement
from pytest_ptq.qconfig import QConfig

if TYPE_CHECKING:
    from pytest_ptq.measure.latency import LatencySamples


class Stopwatch(Protocol):
    """Times int8 models against fp32 in fresh processes; `pytest_ptq.timing` has them."""

    def add(self, name: str, make: Callable[[], Any]) -> None: ...

    def samples(self, name: str, together: Iterable[str] = ()) -> LatencySamples: ...

    def can_extend(self, name: str) -> bool: ...

    def extend(self, name: str) -> LatencySamples: ...


class Place(Protocol):
    """Judges the int8 models of one suite where they run."""

    def accuracy(self, qconfig: QConfig) -> Mapping[str, Measurement]: ...

    def size(self, qconfig: QConfig) -> Mapping[str, Measurement]: ...

    def coverage(self, qconfig: QConfig) -> Mapping[str, Measurement]: ...

    @property
    def timing(self) -> Stopwatch:
        """Times the models that run here, and none that run elsewhere."""
        ...

    def stored(self, qconfig: QConfig) -> str:
        """The name under which the processes that time a model know it; stores it the first time."""
        ...

    def save(self, qconfig: QConfig, folder: Path) -> Path:
        """Write the file that is deployed, named after suite and qconfig."""
        ...
