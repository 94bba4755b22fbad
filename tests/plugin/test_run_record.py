"""What a run writes into its record beside the gates: timed pairs, and the commit as people know it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from plugin.clockwork import Clockwork
from plugin.project import Project
from pytest_ptq.store.history import list_records, read_record

INT8_MS = [[0.5, 0.4, 0.3], [0.6, 0.4, 0.2], [0.5, 0.5, 0.5], [0.45, 0.5, 0.55], [0.5, 0.5, 0.5]]


def test_a_record_holds_the_pairs_of_every_process(project: Project, clockwork: Callable[..., Clockwork]) -> None:
    clockwork(*INT8_MS)
    project.run("--ptq-qconfig", "x86").assert_outcomes(passed=4)
    (path,) = list_records(project.path / ".ptq" / "history")
    (result,) = read_record(path).results
    assert result.pairs == tuple(map(tuple, INT8_MS))


def test_without_latency_there_are_no_pairs(project: Project) -> None:
    project.gates().assert_outcomes(passed=3)
    (record,) = project.records()
    assert [result["pairs"] for result in record["results"]] == [[]]


def test_a_record_names_its_commit(project: Project) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for command in (["init", "-qb", "topic"], ["add", "."], ["commit", "-qm", "Round to even"]):
        subprocess.run(["git", *identity, *command], cwd=project.path, check=True)
    project.gates().assert_outcomes(passed=3)
    (record,) = project.records()
    assert (record["branch"], record["commit_subject"]) == ("topic", "Round to even")
    assert record["commit_time"].endswith("+00:00")
