"""int8 models judged in another runtime: the file that it is given, as it answers, runs and counts there."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytest_ptq.errors import StoreError
from pytest_ptq.metrics import INT8_KERNELS, INT8_MACS, KERNELS, NOT_INT8, QDQ_PAIRS, Measurement
from pytest_ptq.qconfig import QConfig
from pytest_ptq.runner.exported import Exported, Size
from pytest_ptq.runner.in_torch import covered, int8_share, told_how
from pytest_ptq.runtimes import KernelCounts, Session, find_runtime

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pytest_ptq.runner.evaluation import Evaluation
    from pytest_ptq.runner.models import SuiteModels
    from pytest_ptq.timing import FileTiming

SESSIONS = 4
"""How many models stay loaded, each for one size of image."""
NAMED_LAYERS = 8
"""How many of the layers that do not run in int8 are named."""


class InRuntime:
    """The models of one suite, run by ONNX Runtime or OpenVINO.

    Args:
        models: of the suite.
        evaluation: its images. The reference is the fair fp32 in torch, for all runtimes the same.
        runtime: which of `pytest_ptq.runtimes`.

    Raises:
        InstallationError: a package of the runtime is missing.
    """

    def __init__(self, models: SuiteModels, evaluation: Evaluation, runtime: str) -> None:
        self._models, self._evaluation = models, evaluation
        self._runtime = find_runtime(runtime)
        self._runtime.check_installed()
        self.files = Exported(models, runtime)
        self._sessions: OrderedDict[tuple[QConfig, Size], Session] = OrderedDict()

    def session(self, qconfig: QConfig, like: Tensor) -> Session:
        """The int8 model for inputs like the given one, loaded. Raises InferenceError, ExportError."""
        key = (qconfig, tuple(like.shape[1:]))
        if key not in self._sessions:
            self._sessions[key] = self._runtime.load(self.files.int8(qconfig, like), self._models.threads)
            while len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)
        return self._sessions[key]

    def called(self, qconfig: QConfig) -> nn.Module:
        """The int8 model as something that takes and returns what the fp32 model does."""
        return cast("nn.Module", _Called(lambda x: self.session(qconfig, x), self._answer))

    @cached_property
    def _answer(self) -> Any:
        """What the fp32 model returns: the form that a runtime's flat outputs are given again."""
        import torch

        with torch.inference_mode():
            return self._models.fused(self.files.image)

    def accuracy(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        found = self._evaluation.compare(self.called(qconfig), f"evaluating {qconfig.name}")
        return told_how(found, str(self.session(qconfig, self.files.image).kernels()))

    def size(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        """Of the file that is deployed."""
        from pytest_ptq.engine.artifact import serialized_bytes
        from pytest_ptq.measure.size import size_measurements

        leftover = covered(self._models, qconfig).fp32_parameters
        int8 = self.files.int8(qconfig, self.files.image).stat().st_size
        return size_measurements(serialized_bytes(self._models.model), int8, leftover)

    def coverage(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        """What the engine has quantized, as far as the runtime's own graph has an int8 kernel for it."""
        from pytest_ptq.engine.export.layers_of_file import weighted_layers
        from pytest_ptq.runtimes.matching import verify

        found, counts = covered(self._models, qconfig), self._kernels(qconfig)
        verified = verify(found.int8_layers, weighted_layers(self.files.int8(qconfig, self.files.image)), counts)
        details: dict[str, str] = {KERNELS: str(counts)}
        if verified.layers:
            details[NOT_INT8] = _listed(verified.layers)
        share = int8_share(found, found.int8_macs - verified.missing, self._models.suite.name, **details)
        return {
            INT8_MACS.key: share,
            INT8_KERNELS.key: Measurement(INT8_KERNELS, float(len(counts.weighted_int8))),
            QDQ_PAIRS.key: Measurement(QDQ_PAIRS, float(found.detours)),
        }

    def _kernels(self, qconfig: QConfig) -> KernelCounts:
        """Of a session that has seen one image and nothing else: what is compiled may depend on the input."""
        session = self._runtime.load(self.files.int8(qconfig, self.files.image), self._models.threads)
        session.run(self.files.image.numpy())
        return session.kernels()

    @cached_property
    def timing(self) -> FileTiming:
        from pytest_ptq.timing import FileTiming

        models = self._models
        return FileTiming(
            self._runtime,
            lambda: self.files.fp32(self.files.timed),
            models.suite.latency_shape,
            models.threads,
            models.progress,
        )

    def stored(self, qconfig: QConfig) -> str:
        name = f"int8 {qconfig.name}"
        self.timing.add(name, lambda: self.files.int8(qconfig, self.files.timed))
        return name

    def save(self, qconfig: QConfig, folder: Path) -> Path:
        source = self.files.int8(qconfig, self.files.image)
        target = folder / f"{self._models.suite.name}_{qconfig.name}{source.suffix}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            shutil.copyfile(source, partial)
            partial.replace(target)
        except OSError as error:
            raise StoreError(f"cannot write the model: {error.strerror}", place=str(target)) from error
        return target


def _listed(layers: tuple[str, ...]) -> str:
    more = len(layers) - NAMED_LAYERS
    return ", ".join(layers[:NAMED_LAYERS]) + (f" and {more} more" if more > 0 else "")


class _Called:
    """Sessions that are called with a tensor, and answer in the form of `answer`."""

    def __init__(self, session_for: Callable[[Tensor], Session], answer: Any) -> None:
        self._session_for, self._answer = session_for, answer

    def __call__(self, x: Tensor) -> Any:
        import torch

        found = self._session_for(x).run(x.contiguous().numpy())
        parts = found if isinstance(found, tuple) else (found,)
        return _shaped_like(self._answer, (torch.from_numpy(part) for part in parts))


def _shaped_like(answer: Any, parts: Iterator[Tensor]) -> Any:
    """The tensors `parts`, in dicts, tuples and lists as those of `answer` are; what is no tensor is left out."""
    import torch

    if isinstance(answer, torch.Tensor):
        return next(parts)
    if isinstance(answer, Mapping):
        return {key: _shaped_like(value, parts) for key, value in answer.items() if _holds(value)}
    return type(answer)(_shaped_like(value, parts) for value in answer if _holds(value))


def _holds(value: Any) -> bool:
    """Whether there is any tensor in it."""
    import torch

    if isinstance(value, Mapping):
        return any(map(_holds, value.values()))
    return isinstance(value, torch.Tensor) or (isinstance(value, (tuple, list)) and any(map(_holds, value)))
