"""What somebody else's int8 model answers, held to the form of what fp32 answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import InferenceError, MeasurementError
from pytest_ptq.measure.outputs import float_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_ptq.runtimes import Session


class OwnAnswers:
    """Takes images (N, ...) as tensors and returns what the model does, as tensors.

    A file whose batch size is fixed at one is given image by image.

    Args:
        model: a session, or a module or function.
        expected: what fp32 answers to images; only the form of it is used, once.
        where: the model, for messages.

    Raises:
        MeasurementError: it refuses its input, or answers in another form than fp32, or not in finite floats.
    """

    def __init__(self, model: Session | Callable[[Any], Any], expected: Callable[[Tensor], Any], where: str) -> None:
        self._model, self._expected, self._where = model, expected, where
        self._one_by_one = self._known = False

    def __call__(self, images: Tensor) -> Any:
        answer = self._run(self._model, images)
        if not self._known:
            self._check_form(answer, images)
            self._known = True
        for name, tensor in float_tensors(answer):
            if not tensor.isfinite().all():
                remedy = "Look for an overflow in its scales, and for NaN in its weights."
                raise MeasurementError(f"{name} is not finite (NaN or infinite)", place=self._where, remedy=remedy)
        return answer

    def once(self, model: Session, images: Tensor) -> None:
        """Run another session of the same model, for what it then tells."""
        self._run(model, images)

    def _run(self, model: Any, images: Tensor) -> Any:
        import torch

        if self._one_by_one:
            parts = [self._whole(model, image[None]) for image in images]
            return (
                torch.cat(parts)
                if isinstance(parts[0], torch.Tensor)
                else tuple(map(torch.cat, zip(*parts, strict=True)))
            )
        try:
            return self._whole(model, images)
        except InferenceError:
            if len(images) < 2 or not self._takes_one(model, images):
                raise
            self._one_by_one = True
            return self._run(model, images)

    def _takes_one(self, model: Any, images: Tensor) -> bool:
        try:
            self._whole(model, images[:1])
        except InferenceError:
            return False
        return True

    def _whole(self, model: Any, images: Tensor) -> Any:
        import torch

        if not hasattr(model, "run") or isinstance(model, torch.nn.Module):
            return self._module(model, images)
        try:
            found = model.run(images.contiguous().numpy())
        except InferenceError as error:
            error.place = f"{self._where}, input of shape {tuple(images.shape)}"
            raise
        parts = found if isinstance(found, tuple) else (found,)
        tensors = tuple(torch.from_numpy(part) for part in parts)
        return tensors[0] if len(tensors) == 1 else tensors

    def _module(self, model: Any, images: Tensor) -> Any:
        import torch

        try:
            with torch.inference_mode():
                return model(images)
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            message = f"it refuses an input of shape {tuple(images.shape)} ({first[:200]})"
            raise InferenceError(message, place=self._where, remedy="Does it take what fp32 takes?") from error

    def _check_form(self, answer: Any, images: Tensor) -> None:
        import torch

        expected = self._expected(images[:1])
        if not isinstance(expected, torch.Tensor):
            return
        remedy = "It has to return what the fp32 model returns."
        if not isinstance(answer, torch.Tensor):
            what = f"{len(answer)} tensors" if isinstance(answer, (tuple, list)) else f"a {type(answer).__name__}"
            raise MeasurementError(f"it returns {what} where fp32 returns one", place=self._where, remedy=remedy)
        wanted = (len(images), *expected.shape[1:])
        if answer.shape != wanted:
            message = f"it answers in the shape {tuple(answer.shape)} where fp32 answers in {wanted}"
            raise MeasurementError(message, place=self._where, remedy=remedy)
        if not answer.is_floating_point():
            message = f"it answers in {str(answer.dtype).removeprefix('torch.')}, not in floats"
            raise MeasurementError(message, place=self._where, remedy="Let it end with a DequantizeLinear.")
