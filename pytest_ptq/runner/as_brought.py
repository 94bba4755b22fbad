"""An int8 model that somebody else made, judged as it comes: it answers, is weighed, timed and counted like ours."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytest_ptq.errors import MeasurementError, PTQError, StoreError
from pytest_ptq.metrics import INT8_KERNELS, INT8_SHARE, KERNELS, Measurement
from pytest_ptq.own_int8 import OwnInt8
from pytest_ptq.qconfig import QConfig
from pytest_ptq.runner.answers import OwnAnswers
from pytest_ptq.runner.in_torch import told_how
from pytest_ptq.runtimes import Session, find_runtime
from pytest_ptq.sources import ExportedProgram, Int8File

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pytest_ptq.runner.evaluation import Evaluation
    from pytest_ptq.runner.models import SuiteModels
    from pytest_ptq.runner.place import Place, Stopwatch

LEAST_NUMBERS = 0.4
"""A state that holds fewer numbers than this share of fp32's parameters is not all of a model."""


class AsBrought:
    """One model of a suite's `int8`, in the place of what a qconfig makes.

    Args:
        models: of the suite; its fair fp32 is what the model is held against.
        evaluation: its images.
        own: the model.
        place: where it runs: what times it, against fp32 in the same runtime.
    """

    def __init__(self, models: SuiteModels, evaluation: Evaluation, own: OwnInt8, place: Place) -> None:
        self._models, self._evaluation, self._own, self._place = models, evaluation, own, place
        self._where = f"suite {models.suite.name}, int8 {own.name}"

    @cached_property
    def _file(self) -> Int8File | None:
        return self._own.source if isinstance(self._own.source, Int8File) else None

    @cached_property
    def _session(self) -> Session | None:
        """None for what is no file of a runtime: a function, or an exported program."""
        file = self._file
        if file is None or isinstance(file, ExportedProgram):
            return None
        with _placed(self._where):
            file.files()
            return find_runtime(file.runtime).load(file.check(), self._models.threads)

    @cached_property
    def _module(self) -> Callable[[Any], Any]:
        """What takes a batch of images (N, ...). Raises MeasurementError: the function raises, or returns none such."""
        if isinstance(self._file, ExportedProgram):
            with _placed(self._where):
                return self._file.build()
        try:
            made = self._own.source()
        except PTQError:
            raise
        except Exception as error:
            text = " ".join(str(error).split()) or "without a word"
            message = f"the function that makes it raises {type(error).__name__}: {text}"
            raise MeasurementError(message, place=self._where, remedy="Correct the suite's code.") from error
        if not callable(made) or isinstance(made, type):
            remedy = "Return a module in eval mode, or a function of a batch of images."
            raise MeasurementError(f"the function returns a {type(made).__name__}", place=self._where, remedy=remedy)
        if getattr(made, "training", False):
            message = "the module is in training mode"
            raise MeasurementError(message, place=self._where, remedy="Call .eval() in the function that makes it.")
        return cast("Callable[[Any], Any]", made)

    @cached_property
    def _called(self) -> OwnAnswers:
        return OwnAnswers(self._session or self._module, self._expected, self._where)

    def _expected(self, images: Tensor) -> Any:
        """What fp32 answers, for the form of it."""
        return self._models.fp32(images)

    def accuracy(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        found = self._evaluation.compare(
            cast("nn.Module", self._called), f"evaluating {qconfig.name}", calibrated=False
        )
        kind = "its own" if self._session is None else str(self._session.kernels())
        return told_how(found, kind)

    def size(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        """Bytes of all files that are shipped, or of the module's serialized state, against fp32's in the same form."""
        from pytest_ptq.engine.artifact import serialized_bytes
        from pytest_ptq.measure.size import size_measurements

        if self._file is not None:
            with _placed(self._where):
                return size_measurements(serialized_bytes(self._models.model), self._file.bytes(), None)
        why = self.unknown("size")
        if why is not None:
            raise MeasurementError(why, place=self._where)
        state = cast("nn.Module", self._module).state_dict()
        return size_measurements(_bytes(self._models.model.state_dict()), _bytes(state), None)

    def coverage(self, qconfig: QConfig) -> Mapping[str, Measurement]:
        """How many of the convolutions and products that the runtime computes with read int8."""
        why = self.unknown("coverage")
        if why is not None or self._session is None:
            raise MeasurementError(str(why), place=self._where)
        session = find_runtime(qconfig.runtime).load(cast("Int8File", self._file).check(), self._models.threads)
        self._called.once(session, self._example)
        counts = session.kernels()
        if not counts.weighted:
            raise MeasurementError("the model multiplies nothing", place=self._where, remedy="Is it the right file?")
        share = 100 * len(counts.weighted_int8) / len(counts.weighted)
        return {
            INT8_SHARE.key: Measurement(INT8_SHARE, share, details={KERNELS: str(counts)}),
            INT8_KERNELS.key: Measurement(INT8_KERNELS, float(len(counts.weighted_int8))),
        }

    def unknown(self, gate: str) -> str | None:
        """Why what a gate asks cannot be known of this model, a clause; None where it can."""
        if gate == "coverage" and self._session is None:
            return f"how much of {self._own.name} runs in int8 is not known: a module does not tell its kernels"
        if gate != "size" or self._file is not None:
            return None
        state, wanted = getattr(self._module, "state_dict", None), _numbers(self._models.model.state_dict())
        held = _numbers(state()) if callable(state) else 0
        if held >= LEAST_NUMBERS * wanted:
            return None
        return f"the size of {self._own.name} is not known: its state holds {held} numbers and that of fp32 {wanted}"

    @cached_property
    def timing(self) -> Stopwatch:
        return self._place.timing

    def stored(self, qconfig: QConfig) -> str:
        name = f"int8 {qconfig.name}"
        timing = cast("Any", self.timing)
        if self._session is not None and qconfig.runtime != "torch":
            self._called.once(self._session, self._example)  # what it refuses is told here, and not by a process
            timing.add(name, lambda: cast("Int8File", self._file).check())
        elif self._file is not None:
            timing.add_file(name, self._file.check())
        else:
            timing.add_here(name, lambda: self._module, "a function made it in this process")
        return name

    @property
    def _example(self) -> Tensor:
        import torch

        return torch.rand(self._models.suite.latency_shape, generator=torch.Generator().manual_seed(0))

    def save(self, qconfig: QConfig, folder: Path) -> Path:
        """Copy the files; of a module there is nothing to be shipped."""
        if self._file is None:
            return folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            copies = [Path(shutil.copy2(path, folder / path.name)) for path in self._file.files()]
        except OSError as error:
            raise StoreError(f"cannot write the model: {error.strerror}", place=str(folder)) from error
        return copies[0]


@contextlib.contextmanager
def _placed(where: str) -> Iterator[None]:
    """Whatever goes wrong inside is said of this model."""
    try:
        yield
    except PTQError as error:
        error.place = f"{where}: {error.place}" if error.place else where
        raise


def _numbers(state: Any) -> int:
    """How many numbers a state dict holds, tensors within tuples included."""
    import torch

    if isinstance(state, torch.Tensor):
        return state.numel()
    parts = state.values() if isinstance(state, Mapping) else state if isinstance(state, (tuple, list)) else ()
    return sum(map(_numbers, parts))


def _bytes(state: Any) -> int:
    """What a state takes in a file. Raises MeasurementError: it cannot be written."""
    import torch

    held = io.BytesIO()
    try:
        torch.save(dict(state), held)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise MeasurementError(f"the module's state cannot be stored ({first})", place="size") from error
    return len(held.getvalue())
