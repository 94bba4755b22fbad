"""JUnit properties: every measurement beside its test, machine and versions beside the run, always valid XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

import pytest

from plugin.project import Project, machine_key
from pytest_ptq.metrics import Direction, Judgement, Limit, Measurement, Metric, Verdict
from pytest_ptq.plugin.junit import item_properties
from pytest_ptq.plugin.results import GateResult
from pytest_ptq.store.record import QConfigRecord


def pairs(found: Iterable[ET.Element]) -> dict[str, str]:
    listed = [(p.attrib["name"], p.attrib["value"]) for p in found]
    assert len(dict(listed)) == len(listed), "a property is written twice"
    return dict(listed)


def test_a_test_says_what_on_what_and_against_what(project: Project) -> None:
    project.limits(recorded={machine_key(): {"x86": {"size_reduction_x": {"value": 1.0}}}})
    project.gates("--junitxml=junit.xml")
    (suite,) = ET.parse(project.path / "junit.xml").iter("testsuite")
    cases = {case.attrib["name"]: pairs(case.iter("property")) for case in suite.iter("testcase")}
    accuracy, size = cases["test_accuracy[x86]"], cases["test_size[x86]"]
    for found in cases.values():
        about = {"ptq_suite": "tiny", "ptq_data": "embedded", "ptq_qconfig": "x86", "ptq_machine": machine_key()}
        assert about.items() <= found.items()
        assert found["ptq_verdict"] == "pass"
    for key in ("accuracy_drop_pp", "accuracy_drop_pp_low", "accuracy_drop_pp_high", "sqnr_db", "flips_percent"):
        float(accuracy[key])
    assert accuracy["accuracy_drop_pp_samples"] == "64"
    assert accuracy["accuracy_drop_pp_limit"] == "100.0"
    assert accuracy["accuracy_drop_pp_limit_source"].startswith("baselines/tiny.json:")
    assert accuracy["accuracy_drop_pp_verdict"] == "pass"
    assert size["size_reduction_x_recorded"] == "1.0"


def test_the_run_says_machine_and_versions(project: Project) -> None:
    (project.path / "file").write_text("", encoding="utf-8")
    project.gates("--junitxml=junit.xml", "--ptq-history=file/h")
    (suite,) = ET.parse(project.path / "junit.xml").iter("testsuite")
    (properties,) = suite.findall("properties")
    found = pairs(properties)
    assert found["ptq_machine"] == machine_key()
    assert {"ptq_cpu", "ptq_threads", "ptq_version_torch", "ptq_version_pytest-ptq", "ptq_version_python"} <= set(found)
    assert found["ptq_problem_1"].startswith("store: ")


def test_a_run_that_has_nothing_to_do_with_it_says_nothing(project: Project) -> None:
    project.tests("def test_own(): pass", "--junitxml=junit.xml")
    assert list(ET.parse(project.path / "junit.xml").iter("property")) == []


def test_it_is_the_same_with_workers(project: Project) -> None:
    project.gates("-n", "1", "--junitxml=junit.xml")
    (suite,) = ET.parse(project.path / "junit.xml").iter("testsuite")
    (properties,) = suite.findall("properties")
    assert pairs(properties)["ptq_machine"] == machine_key()
    cases = {case.attrib["name"]: pairs(case.iter("property")) for case in suite.iter("testcase")}
    assert cases["test_size[x86]"]["ptq_verdict"] == "pass"


def test_what_could_not_be_measured_is_an_error(project: Project) -> None:
    project.baseline.unlink()
    project.gates("--junitxml=junit.xml", "-k", "size")
    (case,) = ET.parse(project.path / "junit.xml").iter("testcase")
    found = pairs(case.iter("property"))
    assert found["ptq_verdict"] == "error"
    assert found["ptq_error_size"].startswith("size: baseline: ")


@pytest.mark.parametrize(
    "name", ["<script>", 'a" b="c', "\x1b[31m", "a\x00b", "\ud800", "]]>", "x::error::y\n", "&amp;"]
)
def test_hostile_names_stay_text(project: Project, name: str) -> None:
    """Names reach pytest's writer through the same properties as the gates' do."""
    metric = Metric(f"m{name}", name, name, Direction.LOWER_IS_BETTER)
    measured = Measurement(metric, 2.0, 1.0, 3.0, 4)
    judged = Judgement(Verdict.FAIL, measured, Limit(metric, 1.0, f"{name}:1"), "why")
    record = QConfigRecord(f"s{name}", name, name, None, {metric.key: measured}, {metric.key: judged}, errors=(name,))
    found = item_properties([GateResult("size", record, True, "x")], name)
    project.tests(f"def test_own(request): request.node.user_properties += {found!r}", "--junitxml=junit.xml")
    (case,) = ET.parse(project.path / "junit.xml").iter("testcase")
    assert [(p.attrib["name"], p.attrib["value"]) for p in case.iter("property")] == found
