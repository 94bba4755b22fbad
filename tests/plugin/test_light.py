"""What must stay light imports no torch: shown in a process of its own."""

from __future__ import annotations

import pytest

SPY = """
import sys
import pytest

HEAVY = ("torch", "torchvision", "numpy", "PIL", "safetensors", "tqdm")

@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    sys.__stdout__.write("\\nheavy: " + ",".join(name for name in HEAVY if name in sys.modules) + ".\\n")
"""


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--collect-only", "--ptq-suite", "resnet50"], ["--ptq-list-suites"], ["test_other.py"]],
    ids=["help", "collect", "list", "no-suite"],
)
def test_no_torch(pytester: pytest.Pytester, args: list[str]) -> None:
    pytester.makepyfile(spy=SPY, test_other="def test_other(ptq_machine): assert ptq_machine.key")
    result = pytester.runpytest_subprocess("-p", "spy", "-p", "no:hypothesispytest", *args)
    assert result.ret == 0
    if args != ["--ptq-list-suites"]:  # which ends before pytest is configured
        assert "heavy: ." in result.stdout.lines


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
