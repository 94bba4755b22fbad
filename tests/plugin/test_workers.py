"""Under pytest-xdist: one table from all workers, and no latency beside other work."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from plugin.project import Project, output
from pytest_ptq.plugin.workers import item_id, scheduler


def test_results_of_workers_meet_on_the_controller(project: Project) -> None:
    result = project.gates("-n", "2", "--junitxml=junit.xml")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["ptq: suite=tiny *", "x86 *->*/ 100*pass*", "*(*x)*", "run record: *"])
    (record,) = project.records()
    assert {"accuracy_drop_pp", "size_reduction_x", "int8_macs_percent"} <= record["results"][0]["measurements"].keys()
    assert 'name="sqnr_db"' in (project.path / "junit.xml").read_text(encoding="utf-8")


def test_latency_is_refused_beside_others(project: Project) -> None:
    result = project.run("--ptq-metrics", "latency", "--ptq-qconfig", "x86", "-n", "2")
    result.assert_outcomes(failed=1)
    sentence = "latency is not measured beside other work. Run without -n or with --ptq-latency off."
    assert sentence in result.stdout.str()
    assert "Traceback" not in output(result)
    result.stdout.fnmatch_lines(["x86 *ERROR*"])


LISTENER = """
import os


def pytest_runtest_logreport(report):
    # On the controller: which worker ran what.
    if report.when == "call" and hasattr(report, "node"):
        with open("ran.txt", "a", encoding="utf-8") as file:
            file.write(f"{report.node.gateway.id} {report.nodeid}\\n")


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        import importlib

        pipeline = importlib.import_module("pytest_ptq.engine.pipeline")
        real = pipeline.convert

        def counted(prepared, calibration, qconfig, *rest):
            with open("converted.txt", "a", encoding="utf-8") as file:
                file.write(f"{qconfig.name}\\n")
            return real(prepared, calibration, qconfig, *rest)

        pipeline.convert = counted
"""


def ran(project: Project) -> dict[str, str]:
    lines = (project.path / "ran.txt").read_text(encoding="utf-8").splitlines()
    return {nodeid: worker for worker, _, nodeid in (line.partition(" ") for line in lines)}


@pytest.mark.parametrize("said", [(), ("--dist", "loadgroup")], ids=["-n", "loadgroup"])
def test_nothing_is_quantized_twice(project: Project, said: tuple[str, ...]) -> None:
    project.pytester.makeconftest(LISTENER)
    project.pytester.makepyfile(test_other="def test_one(): pass\ndef test_two(): pass\n")
    result = project.run("--ptq-metrics", "accuracy,size,coverage", "test_other.py", "-n", "2", *said)
    result.assert_outcomes(passed=6 + 2)
    converted = (project.path / "converted.txt").read_text(encoding="utf-8").split()
    assert sorted(converted) == ["minmax", "x86"]
    workers = {worker for nodeid, worker in ran(project).items() if nodeid.startswith("suites/tiny.py::")}
    assert len(workers) == 1
    assert workers != set(ran(project).values()), "the other worker runs the other tests"


class Config:
    """As far as a scheduler is chosen by it."""

    def __init__(self, said: str, dist: str, distload: bool = False) -> None:
        self.known_args_namespace = argparse.Namespace(dist=said)
        self.option = argparse.Namespace(dist=dist, distload=distload)


@pytest.mark.parametrize(
    "config",
    [Config("load", "load"), Config("no", "load", True), Config("worksteal", "worksteal"), Config("each", "each")],
)
def test_what_a_person_says_about_workers_holds(config: Any) -> None:
    assert scheduler(config, None, [object()]) is None  # type: ignore[list-item]


def test_without_a_suite_workers_are_fed_as_ever() -> None:
    config: Any = Config("no", "load")
    assert scheduler(config, None, ()) is None


def test_tests_about_a_suite_are_one_group(project: Project) -> None:
    project.pytester.makeconftest(
        "def pytest_collection_modifyitems(items):\n"
        "    groups = {i.name: [m.args for m in i.iter_markers('xdist_group')] for i in items}\n"
        "    assert groups['test_size[x86]'] == groups['test_quantized[x86]'] == [('ptq-tiny-embedded',)]\n"
        "    assert groups['test_grouped'] == [('mine',)]\n"
        "    assert groups['test_other'] == []\n"
    )
    project.pytester.makepyfile(
        test_own="import pytest\n\n\ndef test_quantized(ptq_quantized): pass\n\n\n"
        "@pytest.mark.xdist_group('mine')\ndef test_grouped(ptq_suite): pass\n\n\ndef test_other(): pass\n"
    )
    assert project.gates("--collect-only", "test_own.py").ret == 0


@pytest.mark.parametrize("groups", [("ptq-tiny-embedded",), ("b", "a")])
def test_ids_without_a_group(groups: tuple[str, ...]) -> None:
    class Item:
        nodeid = f"test_x.py::test[a@b]@{'_'.join(sorted(groups))}"

        def iter_markers(self, name: str) -> list[pytest.Mark]:
            return [getattr(pytest.mark, name)(group).mark for group in groups]

    item: Any = Item()
    assert item_id(item) == "test_x.py::test[a@b]"
    item.nodeid = "test_x.py::test"
    assert item_id(item) == "test_x.py::test", "as pytest 9.2 leaves it"


def test_a_failure_under_a_group_is_told_under_its_plain_id(project: Project) -> None:
    project.limits(accuracy_drop_pp=-200.0)
    result = project.gates("-n", "2", "--ptq-annotations", "github")
    result.assert_outcomes(passed=2, failed=1)
    text = result.stdout.str()
    assert "--ptq-qconfig x86 'suites/tiny.py::test_accuracy[x86]'" in text
    assert "@ptq-tiny" not in text
    result.stdout.fnmatch_lines(["::error file=baselines/tiny.json,line=*"])


def test_a_worker_that_dies_fails_its_gate(project: Project) -> None:
    project.pytester.makeconftest(
        "import os\n\n\ndef pytest_runtest_call(item):\n"
        "    if item.name == 'test_size[x86]' and 'PYTEST_XDIST_WORKER' in os.environ:\n        os._exit(1)\n"
    )
    result = project.gates("-n", "2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["x86 *ERROR*"])
    (record,) = project.records()
    assert [row["qconfig"] for row in record["results"]] == ["x86"]


def test_a_broken_suite_file_is_told_once(project: Project) -> None:
    (project.path / "suites" / "tiny.py").write_text("raise OSError('no luck')\n", encoding="utf-8")
    result = project.gates("-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("no luck") == 1
