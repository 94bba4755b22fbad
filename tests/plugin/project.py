"""A project with a tiny suite, in which pytest is run on pytest-ptq."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_ptq.measure.machine import describe_machine

TINY = Path(__file__).parent / "tiny_suite.py"
LIMITS = {"accuracy_drop_pp": 100.0, "size_reduction_x": 0.01, "latency_ratio": 1000.0, "int8_macs_percent": 1.0}
THREADS = 1
NO_LATENCY = "accuracy,size,coverage"


class Project:
    """A folder with `suites/tiny.py` and its baseline, and short ways to run pytest there."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        suites = self.path / "suites"
        suites.mkdir()
        (suites / "tiny.py").write_text(TINY.read_text(encoding="utf-8"), encoding="utf-8")
        self.ini()
        self.limits()

    def ini(self, keys: str = "") -> None:
        # hypothesis would be imported again by every inner run; several threads would wait for one another.
        text = f"[pytest]\naddopts = -p no:cacheprovider -p no:hypothesispytest\nptq_threads = {THREADS}\n{keys}\n"
        (self.path / "pytest.ini").write_text(text, encoding="utf-8")

    @property
    def baseline(self) -> Path:
        return self.path / "baselines" / "tiny.json"

    def limits(self, recorded: Mapping[str, Any] | None = None, **changed: float) -> None:
        """Write the baseline: limits that anything keeps, but for those in `changed`."""
        entry: dict[str, Any] = {"limits": {name: {**LIMITS, **changed} for name in ("x86", "minmax")}}
        if recorded is not None:
            entry["recorded"] = recorded
        self.baseline.parent.mkdir(exist_ok=True)
        text = json.dumps({"schema": 2, "suite": "tiny", "data": {"embedded": entry}}, indent=2)
        self.baseline.write_text(text, encoding="utf-8")

    def edit_suite(self, before: str, after: str) -> None:
        path = self.path / "suites" / "tiny.py"
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")

    def run(self, *args: str) -> pytest.RunResult:
        """pytest in this process, on the suite `tiny`."""
        return self.pytester.runpytest_inprocess("--ptq-suite", "tiny", *args)

    def gates(self, *args: str) -> pytest.RunResult:
        """`run`, without latency: nothing is timed."""
        return self.run("--ptq-metrics", NO_LATENCY, "--ptq-qconfig", "x86", *args)

    def tests(self, source: str, *args: str) -> pytest.RunResult:
        """pytest on a test file of the project's own, without the suite."""
        self.pytester.makepyfile(test_own=source)
        return self.pytester.runpytest_inprocess("test_own.py", *args)

    def records(self) -> list[dict[str, Any]]:
        folder = self.path / ".ptq" / "history"
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def output(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


def machine_key() -> str:
    """Under which the runs of a project record."""
    return describe_machine(THREADS).key
