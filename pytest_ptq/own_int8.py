"""An int8 model that somebody else made, in the place of a qconfig."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from pytest_ptq.errors import SuiteError, UsageError
from pytest_ptq.qconfig import RUNTIMES, QConfig

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class Int8Source(Protocol):
    """A file with an int8 model, such as `OnnxFile` declares."""

    @property
    def runtime(self) -> str:
        """What runs it."""
        ...

    def at(self, folder: Path) -> Int8Source:
        """The same, with a relative path taken from `folder`."""
        ...


Int8Model: TypeAlias = "Int8Source | Callable[[], nn.Module | Callable[..., Any]]"
"""A file, or a function without arguments that returns a module, or whatever else takes a batch of images."""


@dataclass(frozen=True)
class OwnInt8(QConfig):
    """Stands where a qconfig does, so that the model is named, judged and recorded like those that are made here.

    Of what a qconfig says, only its name and its runtime mean anything here.

    Args:
        source: the model.
    """

    source: Any = None

    @classmethod
    def of(cls, name: str, source: object) -> OwnInt8:
        """Raises UsageError: a name that cannot be one, or something that is no model."""
        if not isinstance(source, Int8Source) and (not callable(source) or isinstance(source, type)):
            remedy = "Give OnnxFile(...), OpenVINOFile(...), ExportedProgram(...), TorchScriptFile(...) or a function."
            raise UsageError(f"int8 {name!r} is a {type(source).__name__}, not an int8 model", remedy=remedy)
        runtime = source.runtime if isinstance(source, Int8Source) else RUNTIMES[0]
        return cls(name, runtime=runtime, source=source)


def with_own(qconfigs: tuple[QConfig, ...], int8: Mapping[str, object], place: str) -> tuple[QConfig, ...]:
    """`qconfigs`, and the models of `Suite(int8=...)` behind them. Raises SuiteError for two of one name."""
    own = own_models(int8, place)
    twice = {q.name for q in qconfigs} & {q.name for q in own}
    if twice:
        message = f"{min(twice)!r} names a qconfig and an int8 model"
        raise SuiteError(message, place=place, remedy="Tests are told apart by the name: change one.")
    return (*qconfigs, *own)


def own_models(int8: object, place: str) -> tuple[OwnInt8, ...]:
    """The models that `Suite(int8=...)` declares. Raises SuiteError: no dict of names and models."""
    if not isinstance(int8, Mapping):
        raise SuiteError(
            f"int8 is a {type(int8).__name__}", place=place, remedy='Write int8={"vendor": OnnxFile(...)}.'
        )
    try:
        return tuple(OwnInt8.of(name, source) for name, source in int8.items())
    except UsageError as error:
        raise SuiteError(error.message, place=error.place or place, remedy=error.remedy) from error
