"""int8 models that somebody else made, as a suite declares them: a file and the runtime that runs it.

Nothing is read when a suite is declared; paths are relative to the suite's file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pytest_ptq.errors import SuiteError, UnknownNameError

F = TypeVar("F", bound="Int8File")


@dataclass(frozen=True)
class Int8File:
    """A file with a model that is int8 already.

    Args:
        path: where it is; a relative path is taken from the folder of the file that says so.
    """

    path: str | Path
    runtime: str = "torch"
    suffixes: ClassVar[tuple[str, ...]] = ()
    what: ClassVar[str] = "model"

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | Path) or not str(self.path):
            raise SuiteError(f"{self.path!r} is no path", remedy=f"Write {type(self).__name__}('FILE').")
        if Path(self.path).suffix.lower() not in self.suffixes:
            raise SuiteError(
                f"{Path(self.path).name} does not look like {self.what}",
                remedy=f"{type(self).__name__} reads files that end in {' or '.join(self.suffixes)}.",
            )

    def at(self: F, folder: Path) -> F:
        """The same, seen from `folder`."""
        return replace(self, path=folder / Path(self.path).expanduser())

    def check(self) -> Path:
        """The path. Raises SuiteError: there is no such file, or one that belongs to it is missing."""
        path = Path(self.path)
        if not path.is_file():
            message = "there is a folder where a file was meant" if path.is_dir() else "there is no such file"
            raise SuiteError(message, place=str(path), remedy="A path is relative to the file that declares it.")
        return path

    def files(self) -> tuple[Path, ...]:
        """Everything that is shipped: the file, and those that it refers to. Raises SuiteError."""
        return (self.check(),)

    def bytes(self) -> int:
        """The size of all of them."""
        return sum(path.stat().st_size for path in self.files())


@dataclass(frozen=True)
class OnnxFile(Int8File):
    """An ONNX model, quantized by whatever tool: QuantizeLinear and DequantizeLinear pairs, or QLinear operators.

    Args:
        path: `.onnx`.
        runtime: what runs it: `onnxruntime` or `openvino`.

    Raises:
        SuiteError: a path that is none.
        UnknownNameError: another runtime.
    """

    runtime: str = "onnxruntime"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)
    what: ClassVar[str] = "an ONNX model"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.runtime not in ("onnxruntime", "openvino"):
            raise UnknownNameError("runtime of an ONNX file", str(self.runtime), ("onnxruntime", "openvino"))

    def files(self) -> tuple[Path, ...]:
        path = self.check()
        beside = dict.fromkeys(path.parent / name for name in _external(path))
        for other in beside:
            if not other.is_file():
                message = f"its weights are in {other.name}, which is not beside it"
                raise SuiteError(message, place=str(path), remedy="Ship both files together.")
        return (path, *beside)


@dataclass(frozen=True)
class OpenVINOFile(Int8File):
    """A model in OpenVINO's own form: `model.xml`, with `model.bin` beside it."""

    runtime: str = "openvino"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    what: ClassVar[str] = "an OpenVINO model"

    def files(self) -> tuple[Path, ...]:
        path = self.check()
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            message = f"its weights are in {weights.name}, which is not beside it"
            raise SuiteError(message, place=str(path), remedy="Ship both files together.")
        return path, weights


@dataclass(frozen=True)
class TorchScriptFile(Int8File):
    """A TorchScript program, as `torch.jit.save` writes it. A program is code: load only what you would run."""

    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".pth", ".ts")
    what: ClassVar[str] = "a TorchScript program"


@dataclass(frozen=True)
class ExportedProgram(Int8File):
    """A program as `torch.export.save` writes it, of operators that come with torch.

    It is read without pickle, and refused where it would bring code along: see `pytest_ptq.sources.pt2`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".pt2",)
    what: ClassVar[str] = "an exported program"

    def build(self) -> Callable[[Any], Any]:
        """The program, ready to be called. Raises SuiteError."""
        from pytest_ptq.sources.pt2 import load_pt2

        return load_pt2(self.check())


def _external(path: Path) -> Iterator[str]:
    """Names of the files in which an ONNX model keeps weights beside itself. Raises SuiteError: it is none."""
    try:
        import onnx
    except ImportError:  # whoever runs the model says what is to be installed
        return
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SuiteError(f"this is no ONNX model ({first})", place=str(path), remedy="Export it again.") from error
    for tensor in graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                if Path(entry.value).is_absolute() or ".." in Path(entry.value).parts:
                    message = f"its weights are kept outside of its folder, in {entry.value!r}"
                    raise SuiteError(message, place=str(path), remedy="Save it again, with its weights beside it.")
                yield entry.value
