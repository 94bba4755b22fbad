"""Exit codes are pytest's own, and 0 means that every gate of the suites passed or was left out on purpose."""

from __future__ import annotations

import json

import pytest

from plugin.project import NO_LATENCY, Project, output

SIGINT = "__import__('os').kill(__import__('os').getpid(), __import__('signal').SIGINT)"
ARGS = ("--ptq-suite", "tiny", "--ptq-metrics", NO_LATENCY, "--ptq-qconfig", "x86")


def process(project: Project, *args: str) -> pytest.RunResult:
    """As a person starts it, in a process of its own."""
    return project.pytester.runpytest_subprocess(*ARGS, *args)


def test_0_when_every_gate_passes(project: Project) -> None:
    assert process(project).ret == pytest.ExitCode.OK


def test_1_when_a_gate_fails(project: Project) -> None:
    project.limits(size_reduction_x=99.0)
    result = project.gates()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, failed=1)


def test_1_when_a_gate_cannot_be_measured(project: Project) -> None:
    project.baseline.unlink()
    assert project.gates().ret == pytest.ExitCode.TESTS_FAILED


def test_1_when_the_baseline_cannot_be_written(project: Project) -> None:
    real = project.path / "real.json"
    project.baseline.rename(real)
    project.baseline.symlink_to(real)
    result = project.gates("--ptq-update-baseline", "all")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: baseline: *symbolic link*"])


def test_1_when_the_record_cannot_be_written(project: Project) -> None:
    (project.path / "file").write_text("", encoding="utf-8")
    for option in ("--ptq-history=file/h", "--ptq-json=file/r.json"):
        result = project.gates(option)
        result.assert_outcomes(passed=3)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["ERROR: store: *file/*: the run record cannot be written *"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return list(self.images[:CALIBRATION].split(16))", f"{SIGINT}; return []"),
        ("def evaluation(self):", f"def evaluation(self):\n        {SIGINT}"),
    ],
    ids=["calibration", "gate"],
)
def test_2_after_ctrl_c_which_writes_nothing(project: Project, before: str, after: str) -> None:
    project.edit_suite(before, after)
    text = project.baseline.read_text(encoding="utf-8")
    result = process(project, "--ptq-update-baseline", "all", "--ptq-json", "run.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output(result)
    assert project.baseline.read_text(encoding="utf-8") == text
    assert {path.name for path in project.baseline.parent.iterdir()} == {"tiny.json"}
    assert not (project.path / ".ptq").exists()
    assert not (project.path / "run.json").exists()


def test_3_for_an_internal_error_which_writes_nothing(project: Project) -> None:
    project.pytester.makeconftest("def pytest_runtest_logfinish(nodeid): raise ZeroDivisionError('a broken hook')")
    text = project.baseline.read_text(encoding="utf-8")
    result = project.gates("--ptq-update-baseline", "all")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert "a broken hook" in output(result)
    assert project.baseline.read_text(encoding="utf-8") == text
    assert not (project.path / ".ptq").exists()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--ptq-suite", "tinny"], "unknown suite 'tinny'. Did you mean 'tiny'?"),
        (["--ptq-suite", "tiny", "--ptq-qconfig", "x68"], "unknown qconfig 'x68'. Did you mean 'x86'?"),
        (["--ptq-suite", "tiny", "--ptq-data", "imagenet=x"], "unknown kind of data 'imagenet'"),
        (["--ptq-suite", "tiny", "--ptq-latency", "gat"], "unknown value of --ptq-latency"),
        (["--ptq-suite", "tiny\n::error::x"], "unknown suite"),
        (["--ptq-no-such-option"], "unrecognized arguments: --ptq-no-such-option"),
    ],
    ids=["suite", "qconfig", "data", "value", "hostile", "option"],
)
def test_4_for_what_cannot_be_meant(project: Project, args: list[str], sentence: str) -> None:
    result = project.pytester.runpytest_inprocess(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in output(result)
    assert "Traceback" not in output(result)
    assert not any(line.lstrip().startswith("::") for line in result.stdout.lines + result.stderr.lines)


def test_4_in_a_process_of_its_own(project: Project) -> None:
    assert project.pytester.runpytest_subprocess("--ptq-suite", "tinny").ret == pytest.ExitCode.USAGE_ERROR


def test_5_when_every_gate_is_deselected(project: Project) -> None:
    assert process(project, "-k", "nothing_of_that_name").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_5_when_only_other_tests_ran(project: Project) -> None:
    project.pytester.makepyfile(test_own="def test_own(): pass")
    result = project.gates("test_own.py", "-k", "own")
    result.assert_outcomes(passed=1, deselected=3)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["ERROR: no gate of tiny was run: *"])


def test_0_when_own_tests_of_the_suite_ran(project: Project) -> None:
    project.pytester.makepyfile(test_own="def test_own(ptq_suite): assert ptq_suite.name == 'tiny'")
    assert project.gates("test_own.py", "-k", "own").ret == pytest.ExitCode.OK


def test_0_when_the_ini_file_names_the_suite_and_k_leaves_it_out(project: Project) -> None:
    project.ini(f"ptq_suite = tiny\nptq_metrics = {NO_LATENCY}")
    project.pytester.makepyfile(test_own="def test_own(): pass")
    assert project.pytester.runpytest_inprocess("test_own.py", "-k", "own").ret == pytest.ExitCode.OK


def test_collecting_is_no_failure(project: Project) -> None:
    assert project.gates("--collect-only").ret == pytest.ExitCode.OK


def test_a_fault_in_a_persons_own_code_is_in_table_and_record(project: Project) -> None:
    project.pytester.makeconftest(
        "import pytest\n@pytest.fixture(autouse=True)\ndef own(): raise ZeroDivisionError('of the user\\n::error::x')"
    )
    result = project.gates("--ptq-annotations", "github")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["x86 *ERROR*", "tiny?x86?: accuracy: ZeroDivisionError: of the user"])
    ((found,),) = [record["results"] for record in project.records()]
    assert [error.partition(":")[0] for error in found["errors"]] == ["accuracy", "size", "coverage"]
    # Below its own summary line pytest repeats the message, whole where it sees that it runs in CI: not ours to write.
    ours, _, _ = result.stdout.str().partition("short test summary")
    assert sum(line.startswith("::error") for line in ours.splitlines()) == 3


def test_1_when_a_worker_dies(project: Project) -> None:
    project.edit_suite("def evaluation(self):", "def evaluation(self):\n        __import__('os')._exit(0)")
    result = project.gates("-n", "1", "--max-worker-restart", "2", "--junitxml=junit.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["x86 *ERROR*", "tiny?x86?: accuracy: *crashed*"])
    assert "crashed" in project.records()[0]["results"][0]["errors"][0]


def test_1_when_all_workers_die(project: Project) -> None:
    project.edit_suite("def evaluation(self):", "def evaluation(self):\n        __import__('os')._exit(0)")
    assert project.gates("-n", "1", "--max-worker-restart", "0").ret == pytest.ExitCode.TESTS_FAILED


def test_the_record_goes_to_a_file_of_choice_as_well(project: Project) -> None:
    (project.path / "run.json").write_text("old", encoding="utf-8")
    result = project.gates("--ptq-json", "run.json")
    assert json.loads((project.path / "run.json").read_text(encoding="utf-8")) == project.records()[0]
    result.stdout.fnmatch_lines(["run record: *run.json"])


def test_a_history_that_cannot_be_written_does_not_take_the_file_along(project: Project) -> None:
    (project.path / "file").write_text("", encoding="utf-8")
    assert project.gates("--ptq-history=file/h", "--ptq-json=run.json").ret == pytest.ExitCode.TESTS_FAILED
    assert json.loads((project.path / "run.json").read_text(encoding="utf-8"))["results"]
