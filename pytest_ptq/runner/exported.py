"""The files that other runtimes read: each model is exported once for each of them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ptq.errors import PTQError
from pytest_ptq.qconfig import QConfig, quantization_of

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_ptq.runner.models import SuiteModels


class Exported:
    """Models of one suite as files of one runtime, in a folder that goes when this does.

    Args:
        models: of the suite.
        runtime: its name.
    """

    def __init__(self, models: SuiteModels, runtime: str) -> None:
        self._models, self._runtime = models, runtime
        self._made: dict[QConfig | None, Path | PTQError] = {}

    def int8(self, qconfig: QConfig) -> Path:
        """Raises ExportError, and what quantizing raises."""
        return self._once(quantization_of(qconfig))

    def fp32(self) -> Path:
        """The fair fp32 model: batch norms folded. Raises ExportError."""
        return self._once(None)

    @cached_property
    def example(self) -> Tensor:
        """Random, of the shape that latency is measured with."""
        import torch

        return torch.rand(self._models.suite.latency_shape, generator=torch.Generator().manual_seed(0))

    def _once(self, qconfig: QConfig | None) -> Path:
        """What was written, or raised, the first time."""
        if qconfig not in self._made:
            try:
                self._made[qconfig] = self._write(qconfig, self._folder / f"{len(self._made)}.onnx")
            except PTQError as error:
                self._made[qconfig] = error
        found = self._made[qconfig]
        if isinstance(found, PTQError):
            raise found
        return found

    def _write(self, qconfig: QConfig | None, path: Path) -> Path:
        from pytest_ptq.engine.export import export_onnx

        model = self._models.fused if qconfig is None else self._models.quantized(qconfig)
        return export_onnx(model, path, self.example, runtime=self._runtime)

    @cached_property
    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="pytest-ptq-"))
        self._folder_goes = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder
