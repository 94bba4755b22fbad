"""What a suite is: a model, its data and what to try on them. Declarative and frozen; nothing here imports torch."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_ptq.errors import PTQError, SuiteError, UnknownNameError
from pytest_ptq.own_int8 import Int8Source, own_models
from pytest_ptq.qconfig import RUNTIMES, QConfig, check_runtimes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType, ModuleType

    from torch import Tensor, nn

    from pytest_ptq.own_int8 import Int8Model
    from pytest_ptq.torch_ao import TorchAoQConfig

_PACKAGE = Path(__file__).resolve().parent


class ModelSource(Protocol):
    """Where a float model comes from. `weights` is `--ptq-weights`, when given."""

    def build(self, weights: Path | None = None) -> nn.Module:
        """The model in eval mode with its weights loaded. Raises WeightsError."""
        ...


class Dataset(Protocol):
    """Calibration and evaluation batches; both can be iterated many times and give the same batches each time.

    Two methods may be missing. Without `fingerprints()` the tensors themselves are hashed as they go by. With
    `calibration_labels()`, the class of each calibration image or None, the gates tell which classes calibration saw;
    without it, they go by what the float model makes of the images.
    """

    name: str

    def calibration(self) -> Iterable[Tensor]:
        """Batches of model input, float32 (N, C, H, W)."""
        ...

    def evaluation(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Pairs of model input and int64 labels (N,), or the targets that the metrics of the suite take."""
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
        qconfigs: presets by name, or QConfig objects, also those of torch.ao.
        latency_shape: input shape that latency is measured at: (batch, channels, height, width).
        budget_s: seconds that its tests may take together, `--ptq-budget` aside; None for the ini file's or no end.
        runtimes: where its int8 models run, `--ptq-runtime` aside: `torch`, `onnxruntime`, `openvino`, `all` of them,
            `fastest`. The qconfigs are judged in each.
        int8: models that are int8 already, by the name that stands in their tests: a file, such as
            `OnnxFile("model.int8.onnx")` with a path relative to the suite's file, or a function that returns one.
            They are judged beside the qconfigs, of which there may then be none.
    """

    name: str
    variants: Mapping[str, Variant]
    qconfigs: tuple[str | QConfig | TorchAoQConfig, ...] = ("x86", "minmax")
    latency_shape: tuple[int, ...] = (1, 3, 224, 224)
    description: str = field(default="", compare=False)
    metrics: tuple[str, ...] = ()
    top1: bool = True
    budget_s: float | None = None
    runtimes: tuple[str, ...] = (RUNTIMES[0],)
    int8: Mapping[str, Int8Model] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("_", "").replace("-", "").replace(".", "").isalnum():
            raise SuiteError(f"{self.name!r} is not a usable name", remedy="Use letters, digits, '_', '-' and '.'.")
        if not self.variants:
            raise SuiteError("no variants are declared", place=self.name, remedy="Give at least one kind of data.")
        own_models(self.int8, self.name)
        if not self.qconfigs and not self.int8:
            raise SuiteError("no qconfigs are declared", place=self.name, remedy='Give at least one, such as "x86".')
        _check_types(self.name, self.variants, self.qconfigs)
        if not self.latency_shape or not all(isinstance(n, int) and n > 0 for n in self.latency_shape):
            raise SuiteError(
                f"latency_shape is {self.latency_shape!r}",
                place=self.name,
                remedy="Give positive whole numbers, such as (1, 3, 224, 224).",
            )
        _check_metrics(self.name, self.metrics, top1=self.top1)
        # Written so that NaN is refused too.
        if self.budget_s is not None and not 0 < self.budget_s < math.inf:
            raise SuiteError(f"budget_s is {self.budget_s!r}", place=self.name, remedy="Give a number of seconds.")
        try:
            check_runtimes(self.runtimes)
        except PTQError as error:
            raise SuiteError(error.message, place=self.name, remedy=error.remedy) from error


def _check_types(name: str, variants: Mapping[str, object], qconfigs: object) -> None:
    for kind, variant in variants.items():
        if not isinstance(variant, Variant):
            found = type(variant).__name__
            raise SuiteError(f"variant {kind!r} is a {found}", place=name, remedy="Write Variant(model=..., data=...).")
    if isinstance(qconfigs, str):
        raise SuiteError("qconfigs is a single string", place=name, remedy=f'Write ("{qconfigs}",).')


def _check_metrics(name: str, metrics: object, *, top1: bool) -> None:
    if isinstance(metrics, str) or not isinstance(metrics, Sequence) or not all(isinstance(m, str) for m in metrics):
        remedy = f'Write ("{metrics}",).' if isinstance(metrics, str) else "Give names, as they were registered."
        raise SuiteError(f"metrics is {metrics!r}", place=name, remedy=remedy)
    if not top1 and not metrics:
        remedy = "Name a metric that pytest_ptq_register_metrics registers: metrics=(...)."
        raise SuiteError("without top1 and metrics nothing tells how good the model is", place=name, remedy=remedy)


def packaged_suites() -> Path:
    """The folder of the suites that come with the package: inside a wheel, or beside the package in a checkout."""
    return _packaged("suites")


def packaged_baselines() -> Path:
    """The folder of the baselines that come with the package."""
    return _packaged("baselines")


def _packaged(name: str) -> Path:
    in_wheel = _PACKAGE / f"_{name}"
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / name


def list_suites(search: Sequence[Path]) -> dict[str, Path]:
    """Suite files by name, in alphabetical order. Where two folders hold one name, the earlier folder wins."""
    found: dict[str, Path] = {}
    for folder in search:
        for path in folder.glob("*.py"):
            if not path.stem.startswith(("_", "conftest")):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def load_suite(name_or_path: str | Path, search: Sequence[Path]) -> Suite:
    """The suite that a file declares as `suite = Suite(...)`.

    Args:
        name_or_path: the name of a file in one of the folders of `search`, or a path to a user's own file
            (anything that ends in `.py` or holds a separator).
        search: folders, the most specific first.

    Raises:
        UnknownNameError: no folder holds that name; suggests the nearest.
        SuiteError: the file is missing, raises, or its `suite` is not a Suite.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix != ".py" and len(path.parts) == 1:
        known = list_suites(search)
        if path.name not in known:
            raise UnknownNameError("suite", path.name, known)
        path = known[path.name]
    if not path.is_file():
        raise SuiteError("there is no such file", place=str(path), remedy="Give the name of a suite, or a path.")
    suite: Any = getattr(_execute(path), "suite", None)
    if not isinstance(suite, Suite):
        found = "is missing" if suite is None else f"is a {type(suite).__name__}"
        raise SuiteError(f"`suite` {found}", place=str(path), remedy="Write `suite = Suite(...)` at the top level.")
    folder = path.absolute().parent
    return replace(
        suite, int8={name: m.at(folder) if isinstance(m, Int8Source) else m for name, m in suite.int8.items()}
    )


class _FreshLoader(SourceFileLoader):
    """Compiles the file each time: no `__pycache__` beside a user's suites, and none to go stale."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _execute(path: Path) -> ModuleType:
    # dataclasses and pickle look a class's module up by name, so the module is registered, but under a name
    # that no one else can have.
    name = f"_pytest_ptq_suite_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_loader(name, _FreshLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _explain(error, path) from error
    return module


def _explain(error: BaseException, path: Path) -> SuiteError:
    """One sentence for what a suite file raised, placed at the line of that file that led to it."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    for frame in traceback.extract_tb(error.__traceback__):
        line = frame.lineno if frame.filename == str(path) else line
    place = f"{path}:{line}" if line else str(path)
    text = " ".join((error.message if isinstance(error, PTQError) else str(error)).split())
    remedy = error.remedy if isinstance(error, PTQError) else None
    return SuiteError(f"the file raises {type(error).__name__}: {text}", place=place, remedy=remedy)
