"""What must stay light imports no torch: shown in a process of its own."""

from __future__ import annotations

import pytest

from pytest_ptq.plugin import command_line, gates, isa

SPY = """
import sys
import pytest

HEAVY = ("torch", "torchvision", "numpy", "PIL", "safetensors", "tqdm", "onnx", "onnxruntime", "openvino")

@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    sys.__stdout__.write("\\nheavy: " + ",".join(name for name in HEAVY if name in sys.modules) + ".\\n")
    own = sorted(name for name in sys.modules if name.partition(".")[0] == "pytest_ptq")
    sys.__stdout__.write("own: " + ",".join(own) + ".\\n")
"""


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--collect-only", "--ptq-suite", "resnet50"],
        ["--collect-only", "--ptq-suite", "resnet50", "--ptq-runtime", "all,fastest"],
        ["--ptq-list-suites"],
        ["test_other.py"],
    ],
    ids=["help", "collect", "collect-runtimes", "list", "no-suite"],
)
def test_no_torch(pytester: pytest.Pytester, args: list[str]) -> None:
    pytester.makepyfile(spy=SPY, test_other="def test_other(ptq_machine): assert ptq_machine.key")
    result = pytester.runpytest_subprocess("-p", "spy", "-p", "no:hypothesispytest", *args)
    assert result.ret == 0
    if args != ["--ptq-list-suites"]:  # which ends before pytest is configured
        assert "heavy: ." in result.stdout.lines


def test_help_loads_nothing_but_the_options(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(spy=SPY)
    result = pytester.runpytest_subprocess("-p", "spy", "-p", "no:hypothesispytest", "--help")
    needed = ("pytest_ptq", "pytest_ptq.plugin", "pytest_ptq.plugin.command_line", "pytest_ptq.plugin.hookspecs")
    assert f"own: {','.join(needed)}." in result.stdout.lines
    assert "--ptq-suite=NAME[,NAME]" in result.stdout.str()


def test_a_run_without_a_suite_loads_no_sources(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(spy=SPY, test_other="def test_other(): pass")
    result = pytester.runpytest_subprocess("-p", "spy", "-p", "no:hypothesispytest", "test_other.py")
    (own,) = (line.removesuffix(".").split(",") for line in result.stdout.lines if line.startswith("own: "))
    assert "pytest_ptq.plugin.hooks" in own
    assert not {"pytest_ptq.sources", "pytest_ptq.runner", "pytest_ptq.engine"} & set(own)


def test_names_that_the_help_tells_are_those_there_are() -> None:
    assert tuple(gates.GATES) == command_line.GATES
    assert tuple(isa.HELD_ISAS) == command_line.ISAS


def test_listing_suites_imports_no_torch(pytester: pytest.Pytester) -> None:
    code = (
        "import sys, pytest; code = pytest.main(['--ptq-list-suites', '-p', 'no:hypothesispytest']);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    result = pytester.run(__import__("sys").executable, "-c", code)
    assert result.ret == 0
    assert "resnet50" in result.stdout.str()


def test_the_spy_sees_torch(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(spy=SPY, test_other="def test_other(): import numpy")
    result = pytester.runpytest_subprocess("-p", "spy", "-p", "no:hypothesispytest", "test_other.py")
    assert "heavy: numpy." in result.stdout.lines
