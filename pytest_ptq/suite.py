"""What a suite is: a model, its data and what to try on them. Declarative and frozen; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_ptq.errors import SuiteError
from pytest_ptq.qconfig import QConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from torch import Tensor, nn


class ModelSource(Protocol):
    """Where a float model comes from. `weights` is `--ptq-weights`, when given."""

    def build(self, weights: Path | None = None) -> nn.Module:
        """The model in eval mode with its weights loaded. Raises WeightsError."""
        ...


class Dataset(Protocol):
    """Calibration and evaluation batches; both can be iterated many times and give the same batches each time."""

    name: str

    def calibration(self) -> Iterable[Tensor]:
        """Batches of model input, float32 (N, C, H, W)."""
        ...

    def evaluation(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Pairs of model input and int64 labels (N,)."""
        ...

    def fingerprints(self) -> tuple[Iterator[str], Iterator[str]]:
        """Content hash of each calibration image and of each evaluation image."""
        ...


class DataSource(Protocol):
    """A declared data set: `load` reads it. `argument` is what stands behind `=` in `--ptq-data kind=argument`."""

    def load(self, argument: str | None = None) -> Dataset: ...


@dataclass(frozen=True)
class Variant:
    """What one kind of `--ptq-data` means for a suite: the model whose classes fit, and the data."""

    model: ModelSource | Callable[[], nn.Module]
    data: DataSource


@dataclass(frozen=True)
class Suite:
    """A model under test.

    Args:
        name: also the stem of its baseline file.
        variants: by data kind (`embedded`, `imagenet`, ...); the first is the default.
        qconfigs: presets by name, or QConfig objects.
        latency_shape: input shape that latency is measured at: (batch, channels, height, width).
    """

    name: str
    variants: Mapping[str, Variant]
    qconfigs: tuple[str | QConfig, ...] = ("x86", "minmax")
    latency_shape: tuple[int, ...] = (1, 3, 224, 224)
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("_", "").replace("-", "").replace(".", "").isalnum():
            raise SuiteError(f"{self.name!r} is not a usable name", remedy="Use letters, digits, '_', '-' and '.'.")
        if not self.variants:
            raise SuiteError("no variants are declared", place=self.name, remedy="Give at least one kind of data.")
        if not self.qconfigs:
            raise SuiteError("no qconfigs are declared", place=self.name, remedy='Give at least one, such as "x86".')
