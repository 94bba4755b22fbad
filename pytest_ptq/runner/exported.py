"""The files that other runtimes read: each model is exported once for each of them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_ptq.errors import PTQError
from pytest_ptq.qconfig import QConfig, quantization_of

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_ptq.runner.models import SuiteModels

Size: TypeAlias = tuple[int, ...]
"""Of one image: channels, height, width."""

OBSERVED = 4
"""Calibration batches on which the sums of convolutions are observed that ONNX Runtime rounds before a residual. On
ResNet-50 they are worth 4.9 dB of SQNR; more of them add nothing."""


class Exported:
    """Models of one suite as files of one runtime, in a folder that goes when this does.

    A file has every size but that of the batch from an example: each size that is asked for is a file of its own.

    Args:
        models: of the suite.
        runtime: its name.
    """

    def __init__(self, models: SuiteModels, runtime: str) -> None:
        self._models, self._runtime = models, runtime
        self._made: dict[tuple[QConfig | None, Size], Path | PTQError] = {}

    def int8(self, qconfig: QConfig, like: Tensor) -> Path:
        """The int8 model for inputs (N, ...) like the given one. Raises ExportError, and what quantizing raises."""
        return self._once(quantization_of(qconfig), like)

    def fp32(self, like: Tensor) -> Path:
        """The fair fp32 model: batch norms folded. Raises ExportError."""
        return self._once(None, like)

    @cached_property
    def image(self) -> Tensor:
        """One of the images (1, ...): the size that is deployed. Raises DataError."""
        return self._models.first_images(1)

    @cached_property
    def timed(self) -> Tensor:
        """Random, of the shape that latency is measured with."""
        import torch

        return torch.rand(self._models.suite.latency_shape, generator=torch.Generator().manual_seed(0))

    def observed(self) -> Iterator[Any]:
        """Images: what a runtime rounds besides is given the range that it has on them, not the widest that it may."""
        return islice(self._models.dataset.calibration(), OBSERVED)

    def _once(self, qconfig: QConfig | None, like: Tensor) -> Path:
        """What was written, or raised, the first time."""
        key = (qconfig, tuple(like.shape[1:]))
        if key not in self._made:
            try:
                self._made[key] = self._write(qconfig, self._folder / f"{len(self._made)}.onnx", like)
            except PTQError as error:
                self._made[key] = error
        found = self._made[key]
        if isinstance(found, PTQError):
            raise found
        return found

    def _write(self, qconfig: QConfig | None, path: Path, like: Tensor) -> Path:
        from pytest_ptq.engine.export import export_onnx

        if qconfig is None:
            return export_onnx(self._models.fused, path, like[:1], runtime=self._runtime)
        quantized = self._models.quantized(qconfig)
        return export_onnx(quantized, path, like[:1], runtime=self._runtime, batches=self.observed())

    @cached_property
    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="pytest-ptq-"))
        self._folder_goes = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder
