"""The table of runtimes: nothing is imported before it is needed, and what is missing is one sentence."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from pytest_ptq import runtimes
from pytest_ptq.errors import InferenceError, InstallationError, UnknownNameError
from pytest_ptq.qconfig import RUNTIMES as NAMES
from pytest_ptq.runtimes import RUNTIMES, Kernel, KernelCounts
from pytest_ptq.runtimes.failures import LONGEST, failure, patterns


def test_importing_the_table_and_asking_for_versions_imports_none_of_them() -> None:
    code = """
import sys
from pytest_ptq.runtimes import RUNTIMES, installed_runtimes
said = [runtime.describe() for runtime in RUNTIMES.values()]
installed_runtimes()
print(sorted({"torch", "onnx", "onnxruntime", "openvino", "numpy"} & set(sys.modules)), said)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = [
        f"torch {version('torch')}", f"ONNX Runtime {version('onnxruntime')}", f"OpenVINO {version('openvino')}",
    ]  # fmt: skip
    assert found.stdout.strip() == f"[] {expected}"


def test_every_name_that_a_qconfig_may_have_stands_in_the_table() -> None:
    assert tuple(RUNTIMES) == NAMES
    assert all(runtime.name == name for name, runtime in RUNTIMES.items())
    with pytest.raises(UnknownNameError, match=r"unknown runtime 'openvin'. Did you mean 'openvino'\?"):
        runtimes.find_runtime("openvin")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """without(*packages): as if they were not installed."""

    def take(*packages: str) -> None:
        def found(package: str) -> str:
            if package in packages:
                raise PackageNotFoundError(package)
            return version(package)

        monkeypatch.setattr("pytest_ptq.runtimes.interface.version", found)

    return take


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (("openvino",), "OpenVINO needs openvino, which is not installed. "),
        (("onnx",), "OpenVINO needs onnx, which is not installed. "),
        (("onnx", "openvino"), "OpenVINO needs openvino and onnx, which are not installed. "),
    ],
)
def test_a_missing_package_is_one_sentence_with_the_command(without: Any, taken: tuple[str, ...], said: str) -> None:
    without(*taken)
    with pytest.raises(InstallationError) as caught:
        RUNTIMES["openvino"].load("m.onnx", 1)
    assert str(caught.value) == f"installation: {said}Run: pip install 'pytest-ptq[openvino]'"
    assert "openvino" not in runtimes.installed_runtimes()


def test_all_that_is_missing_is_told_at_once(without: Any) -> None:
    without("onnxruntime", "openvino")
    with pytest.raises(InstallationError) as caught:
        runtimes.check_installed(RUNTIMES.values())
    said = "ONNX Runtime needs onnxruntime, OpenVINO needs openvino, which are not installed. "
    assert str(caught.value) == f"installation: {said}Run: pip install 'pytest-ptq[onnxruntime,openvino]'"
    without("onnx")
    with pytest.raises(InstallationError, match="ONNX Runtime needs onnx, OpenVINO needs onnx, which is not installed"):
        runtimes.check_installed(RUNTIMES.values())


def test_a_version_that_nobody_knows(without: Any) -> None:
    without("onnxruntime")
    assert RUNTIMES["onnxruntime"].version is None
    assert RUNTIMES["onnxruntime"].describe() == "ONNX Runtime (not installed)"
    assert runtimes.installed_runtimes() == ("torch", "openvino")


def test_a_package_that_is_there_and_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InstallationError, match="ONNX Runtime cannot be imported") as caught:
        RUNTIMES["onnxruntime"].load("m.onnx", 1)
    assert str(caught.value).endswith("Install it again: pip install --force-reinstall onnxruntime onnx.")


def test_the_extras_bring_what_the_runtimes_take() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for runtime in RUNTIMES.values():
        if runtime.extra:
            (line,) = [line for line in project.splitlines() if line.startswith(f"{runtime.extra} = [")]
            assert all(f'"{package}>=' in line for package in runtime.packages)


def test_words_of_a_runtime_are_cut_and_stay_on_one_line() -> None:
    known = patterns(r"running (?P<op>\w+) node '(?P<node>.*?)': (?P<why>.*)")
    error = failure("Some Runtime", "run", "at /a/b.cc:3 running Conv node 'a.b': too\n  large.\n\ntrace", known)
    assert isinstance(error, InferenceError)
    assert error.message == "Some Runtime cannot run the model (it stops at Conv node 'a.b'): too large"
    assert failure("R", "run", "", known).message == "R cannot run the model: it does not say why"
    assert len(failure("R", "run", "x" * 999, known).message) == len("R cannot run the model: ") + LONGEST


def test_counts_by_type() -> None:
    counts = KernelCounts(
        (
            Kernel("a", "QLinearConv", True, True),
            Kernel("b", "QLinearConv", True, True),
            Kernel("c", "MaxPool", True, False),
            Kernel("d", "Conv", False, True),
        )
    )
    assert counts.int8 == {"QLinearConv": 2, "MaxPool": 1}
    assert counts.all == {"QLinearConv": 2, "MaxPool": 1, "Conv": 1}
    assert str(counts) == "2 of 3 convolutions and products in int8, 1 other int8 kernel"
