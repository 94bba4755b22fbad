"""The arrows between the packages, read from the imports; an arrow that is not drawn here is a fault."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pytest_ptq"
SUITES = PACKAGE.parent / "suites"

SHARED = {"errors", "heap", "metrics", "qconfig", "speeds", "student", "torch_ao"}
"""What every package may import."""
ARROWS = {
    "plugin": {"report", "runner", "tuning"},
    "cli": {"report", "runner", "profiling", "noise"},
    "profiling": {"runner"},
    "noise": {"runner"},
    "runner": {"suite", "own_int8", "sources", "engine", "runtimes", "timing", "fp32_results"},
    "tuning": {"runner"},
    "timing": {"engine", "measure", "runtimes"},
    "fp32_results": {"engine", "measure", "store"},
    "worker": {"engine", "measure", "runtimes", "sources"},
    "report": {"judge", "store"},
    "suite": {"own_int8"},
    "own_int8": set(),
    "sources": set(),
    "engine": set(),
    "runtimes": set(),
    "measure": set(),
    "judge": set(),
    "store": set(),
    "errors": set(),
    "heap": set(),
    "metrics": set(),
    "qconfig": set(),
    "torch_ao": set(),
    "student": set(),
    "speeds": set(),
}
ONLY_PLUGIN = {"pytest", "_pytest", "pytest_benchmark", "xdist"}
REMOVED_SOON = {"torch.ao", "torch.quantization", "torchao"}
KERNEL_NAMESPACES = {"torch.ops.onednn", "torch.ops.mkldnn", "torch.ops.quantized"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def reachable(package: str) -> set[str]:
    """Everything below `package`: arrows may be followed further down."""
    found = SHARED | ARROWS[package] | {package}
    for below in ARROWS[package]:
        found |= reachable(below)
    return found


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of all that is imported, at any depth; relative imports are not allowed at all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def dotted(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every attribute chain, such as `torch.ops.onednn`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def within(name: str, namespaces: set[str]) -> bool:
    return any(name == namespace or name.startswith(f"{namespace}.") for namespace in namespaces)


def faults(source: str, module: str) -> list[str]:
    """What is wrong with the imports of `module`, a dotted path below the package such as `engine.kernels`."""
    tree = ast.parse(source)
    package = module.partition(".")[0]
    allowed = reachable(package) if package in ARROWS else set()
    found = []
    for line, name in imports(tree):
        root, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if not root:
            found.append(f"{line}: relative import")
        if root == "pytest_ptq" and package != "__init__" and target not in allowed | {"__version__", ""}:
            found.append(f"{line}: {package} -> {target}")
        if root in ONLY_PLUGIN and package != "plugin":
            found.append(f"{line}: only plugin imports {root}")
    for line, name in {*imports(tree), *dotted(tree)}:
        if within(name, REMOVED_SOON):
            found.append(f"{line}: uses {name}")
        if within(name, KERNEL_NAMESPACES) and not within(module, {"engine.kernels"}):
            found.append(f"{line}: only engine.kernels names {name}")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@pytest.mark.parametrize("path", MODULES, ids=[module_name(path) for path in MODULES])
def test_imports_follow_the_arrows(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), module_name(path)) == []


def test_every_package_is_drawn() -> None:
    there = {module_name(path).partition(".")[0] for path in MODULES}
    assert there - {"__init__"} <= set(ARROWS)


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.py")), ids=lambda path: path.stem)
def test_suites_import_public_names_only(path: Path) -> None:
    found = {name.rpartition(".")[0] for _, name in imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert found == {"pytest_ptq"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("engine.plan", "from pytest_ptq.measure.size import x"),
        ("judge.gates", "def f():\n    import pytest_ptq.store.record"),
        ("sources.models", "from pytest_ptq import suite"),
        ("suite", "from pytest_ptq.runner import SuiteRun"),
        ("report.terminal", "import pytest_ptq.plugin"),
        ("errors", "from pytest_ptq.suite import Suite"),
        ("store.record", "from . import baselines"),
        ("report.terminal", "def f():\n    import pytest"),
        ("engine.observers", "from torch.ao.quantization import MinMaxObserver"),
        ("engine.observers", "import torchao.quantization as q"),
        ("engine.observers", "from torch import ao"),
        ("engine.observers", "import torch\nx = torch.ao.quantization.HistogramObserver()"),
        ("engine.ops", "import torch\ny = torch.ops.onednn.qconv_pointwise(1)"),
        ("runtimes.torch", "import torch\ny = torch.ops.mkldnn"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert faults(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "plugin.gates",
            "import pytest\nfrom pytest_ptq.judge.gates import judge\nfrom pytest_ptq.runner import SuiteRun",
        ),
        ("engine.kernels.onednn", "import torch\ny = torch.ops.onednn.qconv_pointwise(1)"),
        ("engine.plan", "from pytest_ptq.engine.ops import OPS\nfrom pytest_ptq.qconfig import QConfig"),
        ("store.record", "from pytest_ptq import __version__"),
    ],
)
def test_a_drawn_arrow_is_allowed(module: str, source: str) -> None:
    assert faults(source, module) == []
