"""Annotations on GitHub: at the line of the limit, where they are wanted, and nothing else that looks like one."""

from __future__ import annotations

import pytest

from plugin.project import Project, machine_key


@pytest.fixture
def github(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path))
    return project


def commands(result: pytest.RunResult) -> list[str]:
    return [line for line in result.stdout.lines if line.lstrip().startswith("::")]


def line_of(project: Project, words: str) -> int:
    text = project.baseline.read_text(encoding="utf-8")
    return 1 + text[: text.index(words)].count("\n")


def test_a_failed_gate_points_at_its_limit(github: Project) -> None:
    github.limits(size_reduction_x=99.0)
    (command,) = commands(github.gates())
    line = line_of(github, "size_reduction_x")
    place = f"file=baselines/tiny.json,line={line}"
    assert command.startswith(f"::error {place},title=size of tiny[x86]%3A FAIL::size reduction of ")
    assert command.endswith(f"breaks the limit of at least 99.00 x (baselines/tiny.json:{line})")


def test_nothing_is_said_of_gates_that_pass(github: Project) -> None:
    assert commands(github.gates()) == []


def test_a_value_that_asks_for_a_refresh_is_a_notice(github: Project) -> None:
    github.limits(recorded={machine_key(): {"x86": {"size_reduction_x": {"value": 0.5}}}})
    result = github.gates()
    assert result.ret == 0
    (command,) = commands(result)
    assert command.startswith("::notice file=baselines/tiny.json,line=")
    assert "--ptq-update-baseline" in command


@pytest.mark.parametrize(
    ("args", "count"),
    [(["--ptq-annotations=off"], 0), (["--ptq-annotations=auto"], 1), (["--ptq-annotations=github"], 1)],
)
def test_the_option(github: Project, args: list[str], count: int) -> None:
    github.limits(size_reduction_x=99.0)
    assert len(commands(github.gates(*args))) == count


def test_elsewhere_only_when_asked_for(project: Project) -> None:
    project.limits(size_reduction_x=99.0)
    assert commands(project.gates()) == []
    assert len(commands(project.gates("--ptq-annotations=github"))) == 1


def test_a_project_below_the_repository(github: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(github.path.parent))
    github.limits(size_reduction_x=99.0)
    (command,) = commands(github.gates())
    assert command.startswith(f"::error file={github.path.name}/baselines/tiny.json,line=")


def test_a_gate_that_cannot_be_measured_points_at_its_suite(github: Project) -> None:
    github.baseline.unlink()
    found = commands(github.gates())
    assert len(found) == 3
    start = (
        "::error file=suites/tiny.py,line=1,title=tiny[x86]%3A not judged::accuracy: baseline: baselines/tiny.json: "
    )
    assert found[0].startswith(start)


def test_a_limit_of_a_marker_points_at_its_test(github: Project) -> None:
    result = github.tests(
        "import pytest, torch\n\n\n"
        "@pytest.mark.ptq(qconfigs=['x86'], min_size_reduction=99.0)\n"
        "def test_own(ptq_check):\n"
        "    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()\n"
        "    ptq_check(model, calibration=[torch.rand(2, 3, 8, 8)])\n"
    )
    result.assert_outcomes(failed=1)
    (command,) = commands(result)
    assert command.startswith("::error file=test_own.py,line=4,title=size of test_own.test_own[x86]%3A FAIL::")


def test_a_file_outside_the_repository_is_not_named(github: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = github.pytester.mkdir("elsewhere")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(elsewhere))
    github.limits(size_reduction_x=99.0)
    (command,) = commands(github.gates())
    assert command.startswith("::error title=size of tiny[x86]%3A FAIL::")


def test_a_problem_beside_the_tests_is_an_error(github: Project) -> None:
    (github.path / "file").write_text("", encoding="utf-8")
    (command,) = commands(github.gates("--ptq-history=file/h"))
    assert command.startswith("::error title=pytest-ptq::store: ")


HOSTILE = "::error::y,line=9%0A::set-output name=a::b::warning::z\x1b[31m##[error]w"


def test_hostile_names_inject_nothing(github: Project) -> None:
    """Layers with names made to be obeyed: each failed gate is one command, and no other line is one."""
    github.edit_suite("return nn.Sequential(", "body = nn.Sequential(")
    github.edit_suite(
        ").eval()  # fmt: skip",
        ")\n        outer = nn.Sequential()\n"
        f"        outer.add_module({HOSTILE!r}, body[:6])\n"
        "        outer.add_module('##[error]', body[6:])\n"
        "        return outer.eval()",
    )
    github.limits(accuracy_drop_pp=-50.0, size_reduction_x=99.0)
    result = github.gates()
    assert "y_line_9_0A__set-output" in result.stdout.str()  # the layer's name, harmless, in the list of the worst
    found = commands(result)
    heads = [command.removeprefix("::").partition("::")[0] for command in found]
    assert [head.partition(" ")[0] for head in heads] == ["error", "error"]
    assert not [line for line in result.stdout.lines if "##[" in line and line not in found]
