"""Which tests are collected: the suite alone, under short and stable ids."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from plugin.project import TINY, Project, output

IDS = [
    f"suites/tiny.py::{test}[{qconfig}]"
    for test in ("test_accuracy", "test_size", "test_int8_coverage", "test_latency")
    for qconfig in ("x86", "minmax")
]


def ids(result: pytest.RunResult) -> list[str]:
    return [line for line in result.stdout.lines if "::" in line]


def test_only_the_suite_is_collected(project: Project) -> None:
    project.pytester.makepyfile(test_other="def test_other(): pass")
    assert ids(project.run("--collect-only", "-q")) == IDS


def test_testpaths_do_not_add_to_it(project: Project) -> None:
    project.ini("testpaths = tests")
    tests = project.pytester.mkdir("tests")
    (tests / "test_other.py").write_text("def test_other(): pass", encoding="utf-8")
    result = project.run("--collect-only", "-q")
    assert ids(result) == IDS
    assert "testpaths" not in result.stdout.str()


def test_a_path_beside_it_adds_to_it(project: Project) -> None:
    project.pytester.makepyfile(test_other="def test_other(): pass")
    assert ids(project.run("--collect-only", "-q", "test_other.py")) == ["test_other.py::test_other", *IDS]


@pytest.mark.parametrize("path", [".", "suites", "suites/tiny.py"])
def test_a_folder_above_it_neither_hides_nor_doubles_it(project: Project, path: str) -> None:
    assert ids(project.run("--collect-only", "-q", path)) == IDS


def test_an_id_narrows_it(project: Project) -> None:
    assert ids(project.run("--collect-only", "-q", IDS[2])) == [IDS[2]]


def test_a_folder_that_pytest_ignores_is_an_error(project: Project) -> None:
    hidden = project.path / ".hidden"
    hidden.mkdir()
    shutil.copy(TINY, hidden / "tiny.py")
    result = project.pytester.runpytest_inprocess("--ptq-suite", ".hidden/tiny.py", ".")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "suite tiny: " in result.stderr.str()
    assert "passed over" in result.stderr.str()


def test_a_users_own_file_anywhere(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    shutil.copy(TINY, elsewhere)
    result = project.pytester.runpytest_inprocess("--ptq-suite", str(elsewhere), "--collect-only", "-q")
    prefix = f"{elsewhere.parent.name}/mine.py::"
    assert ids(result) == [i.replace("suites/tiny.py::", prefix) for i in IDS]


def test_a_packaged_suite_has_the_same_ids_from_any_project(project: Project) -> None:
    args = ("--ptq-suite", "resnet50", "--collect-only", "-q")
    whole = ids(project.pytester.runpytest_inprocess(*args))
    assert "suites/resnet50.py::test_accuracy[x86]" in whole
    assert len(whole) == len(IDS)
    one = "suites/resnet50.py::test_latency[minmax]"
    assert ids(project.pytester.runpytest_inprocess(*args, one)) == [one]


def test_several_suites(project: Project) -> None:
    shutil.copy(TINY, project.path / "suites" / "second.py")
    found = ids(project.pytester.runpytest_inprocess("--ptq-suite", "second,tiny", "--collect-only", "-q"))
    assert found == [i.replace("tiny", "second") for i in IDS] + IDS


def test_the_suite_can_stand_in_the_ini_file(project: Project) -> None:
    project.ini("ptq_suite = tiny\nptq_latency = off\nptq_qconfig = minmax")
    assert ids(project.pytester.runpytest_inprocess("--collect-only", "-q")) == IDS[1:6:2]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["-k", "size and x86"], [IDS[2]]),
        (["-m", "ptq_latency"], IDS[6:]),
        (["--ptq-metrics", "coverage,accuracy"], [*IDS[:2], *IDS[4:6]]),
        (["--ptq-latency", "off"], IDS[:6]),
        (["--ptq-qconfig", "min*"], IDS[1::2]),
        (["--ptq-qconfig", "default"], IDS[1::2]),
        (["--ptq-qconfig", "x86,minmax"], IDS),
    ],
)
def test_parts_of_it(project: Project, args: list[str], expected: list[str]) -> None:
    assert ids(project.run("--collect-only", "-q", *args)) == expected


def test_python_functions_does_not_hide_the_gates(project: Project) -> None:
    project.ini("python_functions = check_*\ncollect_imported_tests = false")
    assert ids(project.run("--collect-only", "-q")) == IDS


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--ptq-suite", "tinny"], "unknown suite 'tinny'. Did you mean 'tiny'?"),
        (["--ptq-suite", "./nowhere.py"], "there is no such file"),
        (["--ptq-suite", "x" * 300 + ".py"], "name too long"),
        (["--ptq-suite", "tiny", "--ptq-qconfig", "x68"], "unknown qconfig 'x68'. Did you mean 'x86'?"),
        (["--ptq-suite", "tiny", "--ptq-qconfig", "y*"], "unknown qconfig 'y*'"),
        (["--ptq-suite", "tiny", "--ptq-data", "imagnet=."], "unknown kind of data 'imagnet'"),
        (["--ptq-suite", "tiny", "--ptq-data", "imagenet=."], "suite tiny: unknown kind of data 'imagenet'"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(project: Project, args: list[str], sentence: str) -> None:
    result = project.pytester.runpytest_inprocess(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in result.stderr.str()
    assert "Traceback" not in output(result)


def test_a_suite_file_that_raises(project: Project) -> None:
    path = project.path / "suites" / "broken.py"
    path.write_text("x = 1\nraise OSError('no\\nluck')\n", encoding="utf-8")
    result = project.pytester.runpytest_inprocess("--ptq-suite", "broken")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"{path}:2: the file raises OSError: no luck" in result.stderr.str()
    assert "Traceback" not in output(result)


def test_list_suites(project: Project) -> None:
    result = project.pytester.runpytest_inprocess("--ptq-list-suites")
    assert result.ret == 0
    listed = dict(line.split(maxsplit=1) for line in result.stdout.lines if line.endswith(".py"))
    assert {"tiny", "resnet50", "mobilenet_v2", "mobilenet_v3_small"} <= listed.keys()
    assert Path(listed["tiny"]) == project.path / "suites" / "tiny.py"


def test_runs_without_a_suite_show_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_other(): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    assert "ptq:" not in result.stdout.str()
    assert not (pytester.path / ".ptq").exists()


def test_a_path_as_value_does_not_move_the_project(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    separate = project.gates("--ptq-history", str(elsewhere), "-p", "no:hypothesispytest")
    separate.assert_outcomes(passed=3)  # with the project's own baseline
    assert "write --ptq-OPTION=VALUE with '='" in separate.stdout.str()
    joined = project.gates(f"--ptq-history={elsewhere}")
    joined.assert_outcomes(passed=3)
    assert "--ptq-OPTION=VALUE" not in joined.stdout.str()
    assert len(list(elsewhere.glob("*.json"))) == 2
