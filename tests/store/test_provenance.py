import subprocess
from datetime import UTC, datetime, timedelta, timezone

import pytest

import pytest_ptq
from pytest_ptq.store import provenance as module
from pytest_ptq.store.provenance import CommitNames, commit_names, current_commit, named_versions, provenance, versions


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_the_commit_is_named_and_changes_are_marked(repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert current_commit(repository) == commit
    (repository / "untracked").write_text("x")
    assert current_commit(repository) == commit
    (repository / "a").write_text("2")
    assert current_commit(repository) == f"{commit}-dirty"


def test_no_repository_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert current_commit(tmp_path) is None
    assert current_commit(tmp_path / "absent") is None


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 5)])
def test_a_git_that_is_absent_or_hangs_costs_the_commit_only(monkeypatch, error):
    def run(*_, **__):
        raise error

    monkeypatch.setattr(module.subprocess, "run", run)
    assert current_commit() is None


def test_a_commit_is_known_by_branch_time_and_subject(repository, monkeypatch):
    git(repository, "checkout", "-qb", "topic/a")
    (repository / "a").write_text("2")
    git(repository, "commit", "-qam", "Round to even\n\nBecause it is better.")
    found = commit_names(repository)
    assert (found.branch, found.subject) == ("topic/a", "Round to even")
    assert abs(datetime.now(UTC) - found.time) < timedelta(minutes=5)
    git(repository, "checkout", "-q", "--detach")
    for key in module.BRANCHES:
        monkeypatch.delenv(key, raising=False)
    assert commit_names(repository).branch is None
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    assert commit_names(repository).branch == "main"


def test_a_commit_that_nobody_knows_has_no_names(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_names(tmp_path) == CommitNames()


def test_versions_name_what_a_number_depends_on():
    found = versions()
    assert {"python", "pytest", "pytest-ptq", "torch", "torchvision"} <= set(found)
    assert list(found) == sorted(found)


def test_the_date_is_the_day_in_utc(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    late = datetime(2026, 1, 31, 23, 30, tzinfo=timezone(timedelta(hours=-3)))
    found = provenance(tmp_path, late)
    assert found.date == "2026-02-01"
    assert found.commit is None
    assert found.versions.startswith("torch ")
    assert provenance(tmp_path).date <= datetime.now(UTC).date().isoformat()


def test_a_runtimes_version_is_told_where_it_was_used(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "version", lambda name: f"1.2-{name}")
    assert "onnx" not in versions()
    assert "onnxruntime" not in versions(["torch"])
    found = versions(["openvino", "torch"])
    assert (found["openvino"], found["onnx"]) == ("1.2-openvino", "1.2-onnx")
    assert "onnxruntime" not in found
    ours = f"pytest-ptq {pytest_ptq.__version__}"
    both = "torch 1.2-torch, torchvision 1.2-torchvision"
    assert named_versions(found, "openvino") == f"{both}, openvino 1.2-openvino, {ours}"
    assert named_versions(found) == f"{both}, {ours}"
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance(tmp_path, runtime="onnxruntime").versions.split(", ")[2] == "onnxruntime 1.2-onnxruntime"
