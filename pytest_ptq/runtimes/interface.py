"""What a runtime is asked for: load a file, run it, and say with which kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pytest_ptq.errors import InstallationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"


@dataclass(frozen=True)
class Kernel:
    """One operation of the graph that a runtime made of a model, and runs.

    Args:
        name: what the runtime calls it.
        type: its operation, in the runtime's own word: `QLinearConv`, `Convolution`.
        int8: whether it reads integers of 8 bits.
        weighted: whether it is a convolution or a matrix product, where nearly all multiply-accumulates are.
        sources: names of the model's nodes that went into it, as far as the runtime tells them.
    """

    name: str
    type: str
    int8: bool
    weighted: bool
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class KernelCounts:
    """Everything that computes in one loaded model; what only moves, converts or quantizes numbers is left out."""

    kernels: tuple[Kernel, ...]

    @property
    def int8(self) -> Mapping[str, int]:
        """How many kernels of each type read int8."""
        return Counter(kernel.type for kernel in self.kernels if kernel.int8)

    @property
    def all(self) -> Mapping[str, int]:
        """How many kernels of each type there are."""
        return Counter(kernel.type for kernel in self.kernels)

    @property
    def weighted(self) -> tuple[Kernel, ...]:
        """Convolutions and matrix products."""
        return tuple(kernel for kernel in self.kernels if kernel.weighted)

    @property
    def weighted_int8(self) -> tuple[Kernel, ...]:
        return tuple(kernel for kernel in self.weighted if kernel.int8)

    def __str__(self) -> str:
        """In a few words: `54 of 54 convolutions and products in int8, 11 other int8 kernels`."""
        others = sum(self.int8.values()) - len(self.weighted_int8)
        words = f"{len(self.weighted_int8)} of {len(self.weighted)} convolutions and products in int8"
        return words + (f", {others} other int8 kernel{'s' if others > 1 else ''}" if others else "")


class Session(Protocol):
    """One model, loaded. It takes one array of images and keeps nothing between calls."""

    def run(self, array: Array) -> Array | tuple[Array, ...]:
        """The output for `array` (N, ...) float32, or all outputs in the model's order; the caller owns them.

        Raises InferenceError.
        """
        ...

    def kernels(self) -> KernelCounts:
        """Read from the graph that the runtime made of the model. Raises InferenceError."""
        ...


Opener: TypeAlias = Callable[[Path, int], Session]


@dataclass(frozen=True)
class Runtime:
    """Where a model may run.

    Args:
        name: what it is called in options, test ids and machine keys.
        title: what people call it.
        packages: distributions that it takes, its own first.
        extra: the extra of this project that brings them; empty where they are always there.
        suffixes: of the files that it reads, dots included.
        opens: (path, threads) -> Session. Imports the packages.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    extra: str
    suffixes: tuple[str, ...]
    opens: Opener

    @property
    def version(self) -> str | None:
        """Of its own package, as installed; None where it is not. Imports nothing."""
        return _version(self.packages[0])

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that are not installed. Imports nothing."""
        return tuple(package for package in self.packages if _version(package) is None)

    def describe(self) -> str:
        """Title and version: `OpenVINO 2026.4.1`. Imports nothing."""
        return f"{self.title} {self.version or '(not installed)'}"

    def check_installed(self) -> None:
        """Raises InstallationError with the command that installs what is missing. Imports nothing."""
        check_installed([self])

    def load(self, path: Path | str, threads: int) -> Session:
        """The model of a file, ready to run with so many threads.

        Raises:
            InstallationError: a package is missing, or cannot be imported.
            InferenceError: the runtime refuses the model; names the operation where the runtime does.
        """
        self.check_installed()
        try:
            return self.opens(Path(path), threads)
        except ImportError as error:
            first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            remedy = f"Install it again: pip install --force-reinstall {' '.join(self.packages)}."
            raise InstallationError(f"{self.title} cannot be imported ({first})", remedy=remedy) from error


def check_installed(runtimes: Iterable[Runtime]) -> None:
    """Raises InstallationError: one sentence about all that is missing, and one command. Imports nothing."""
    lacking = [runtime for runtime in runtimes if runtime.missing]
    if not lacking:
        return
    needs = ", ".join(f"{runtime.title} needs {' and '.join(runtime.missing)}" for runtime in lacking)
    alone = len({package for runtime in lacking for package in runtime.missing}) == 1
    extras = ",".join(runtime.extra for runtime in lacking if runtime.extra)
    raise InstallationError(
        f"{needs}, which {'is' if alone else 'are'} not installed",
        remedy=f"Run: pip install 'pytest-ptq[{extras}]'" if extras else "Install pytest-ptq again.",
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
