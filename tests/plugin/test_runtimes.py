"""`--ptq-runtime`: which items there are, what each is held against, and what a person sees of where it ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plugin.project import LIMITS, THREADS, Project, output
from pytest_ptq.measure.machine import describe_machine
from pytest_ptq.runtimes import interface

AGREES = {"agreement_steps": 255.0, "agreement_flips_percent": 100.0}
X86 = ("--ptq-qconfig", "x86")


def ids(result: pytest.RunResult) -> list[str]:
    """What stands in brackets, once each."""
    found = (line.partition("[")[2].removesuffix("]") for line in result.stdout.lines if "::test_" in line)
    return list(dict.fromkeys(found))


def collected(project: Project, *args: str) -> list[str]:
    result = project.run("--collect-only", "-q", *args)
    assert result.ret == 0, output(result)
    return ids(result)


def key(runtime: str) -> str:
    return describe_machine(THREADS).key_for(runtime)


def limits(project: Project, recorded: dict[str, Any] | None = None, **runtime: dict[str, float]) -> None:
    """Limits that anything keeps; `x86_openvino={...}` for one runtime alone."""
    own = {name.replace("_", "-"): bounds for name, bounds in runtime.items()}
    tree = {"limits": {"x86": {**LIMITS, **AGREES}, "minmax": LIMITS, **own}, "recorded": recorded or {}}
    text = json.dumps({"schema": 2, "suite": "tiny", "data": {"embedded": tree}}, indent=2)
    project.baseline.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), ["x86", "minmax"]),
        (("--ptq-runtime=torch",), ["x86", "minmax"]),
        (("--ptq-runtime=openvino",), ["x86-openvino", "minmax-openvino"]),
        (("--ptq-runtime=torch,openvino", *X86), ["x86", "x86-openvino"]),
        (("--ptq-runtime=all", *X86), ["x86", "x86-onnxruntime", "x86-openvino"]),
        (("--ptq-runtime=fastest", *X86), ["x86-fastest"]),
        (("--ptq-runtime=all", "--ptq-qconfig=x86-openvino,minmax-o*"),
         ["x86-openvino", "minmax-onnxruntime", "minmax-openvino"]),
        (("--ptq-runtime=all", "--ptq-qconfig=fbgemm"), ["x86", "x86-onnxruntime", "x86-openvino"]),
    ],
)  # fmt: skip
def test_qconfigs_are_items_of_each_runtime(project: Project, args: tuple[str, ...], expected: list[str]) -> None:
    assert sorted(collected(project, *args)) == sorted(expected)


def test_the_command_line_wins_over_the_ini_file_and_that_over_the_suite(project: Project) -> None:
    project.edit_suite('    name="tiny",', '    name="tiny", runtimes=("openvino",),')
    assert collected(project, *X86) == ["x86-openvino"]
    project.ini("ptq_runtime = torch,onnxruntime")
    assert collected(project, *X86) == ["x86", "x86-onnxruntime"]
    assert collected(project, *X86, "--ptq-runtime", "fastest") == ["x86-fastest"]


def test_a_qconfig_that_says_where_it_runs_stays_there(project: Project) -> None:
    project.edit_suite('    name="tiny",', '    name="tiny", qconfigs=("x86", "minmax-onnxruntime"),')
    assert collected(project) == ["x86", "minmax-onnxruntime"]
    assert collected(project, "--ptq-runtime", "openvino") == ["x86-openvino", "minmax-onnxruntime"]


def test_the_marker_wins_over_the_command_line(project: Project) -> None:
    source = """
        import pytest

        @pytest.mark.ptq(qconfigs=["minmax"], runtimes=["torch", "openvino"])
        def test_mine(ptq_qconfig): assert ptq_qconfig.runtime in ("torch", "openvino")

        @pytest.mark.ptq(suite="tiny", runtimes="onnxruntime")
        def test_suite(ptq_qconfig): assert ptq_qconfig.runtime == "onnxruntime"

        @pytest.mark.ptq(qconfigs=["x86"])
        def test_usual(ptq_qconfig): assert ptq_qconfig.runtime == "openvino"
    """
    result = project.tests(source, "-v", "--ptq-runtime=openvino")
    result.assert_outcomes(passed=5)
    found = [line.split()[0].partition("::")[2] for line in result.stdout.lines if "PASSED" in line]
    assert found == [
        "test_mine[minmax]", "test_mine[minmax-openvino]", "test_suite[x86-onnxruntime]",
        "test_suite[minmax-onnxruntime]", "test_usual[x86-openvino]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--ptq-runtime=openvin",), "unknown runtime 'openvin'. Did you mean 'openvino'?"),
        (("--ptq-runtime=",), "--ptq-runtime names no runtime. Known: torch, onnxruntime, openvino, all, fastest."),
        (("--ptq-qconfig=x86-openvino",), "no qconfig 'x86-openvino' is run. Add --ptq-runtime openvino."),
        (("--ptq-runtime=openvino", "--ptq-qconfig=x87"), "unknown qconfig 'x87'"),
        (("--ptq-runtime=fastest", "--ptq-tune"), "the fastest runtime is not known before"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_measured(project: Project, args: tuple[str, ...], said: str) -> None:
    result = project.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in output(result)
    assert output(result).count("ERROR") == 1


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ONNX Runtime nor OpenVINO is installed."""
    real = interface._version
    absent = ("onnxruntime", "openvino")
    monkeypatch.setattr(interface, "_version", lambda package: None if package in absent else real(package))


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize(
    ("runtime", "command"),
    [
        ("onnxruntime", "pip install 'pytest-ptq[onnxruntime]'"),
        ("torch,openvino", "pip install 'pytest-ptq[openvino]'"),
        ("all", "pip install 'pytest-ptq[onnxruntime,openvino]'"),
        ("fastest", "pip install 'pytest-ptq[onnxruntime,openvino]'"),
    ],
)
def test_a_missing_extra_is_one_sentence_with_the_command(project: Project, runtime: str, command: str) -> None:
    result = project.run("--ptq-runtime", runtime)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in output(result).splitlines() if "not installed" in line)
    assert command in line
    assert project.run("--ptq-runtime", "torch", *X86, "--ptq-metrics", "size").ret == 0


@pytest.mark.usefixtures("without")
def test_a_missing_extra_of_a_markers_runtime_is_told_while_collecting(project: Project) -> None:
    source = """
        import pytest

        @pytest.mark.ptq(qconfigs=["x86"], runtimes=["openvino"])
        def test_mine(ptq_check): pass
    """
    result = project.tests(source)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "pip install 'pytest-ptq[openvino]'" in output(result)


def test_each_runtime_is_judged_recorded_and_compared_under_its_own_key(project: Project) -> None:
    limits(project)
    args = ("--ptq-runtime", "torch,openvino", *X86)
    result = project.run(*args, "--ptq-update-baseline", "new")
    result.assert_outcomes(passed=9)
    result.stdout.fnmatch_lines(["ptq: suite=tiny * runtime=torch,openvino *drift=torch: not judged*; openvino: not*"])
    assert any(line.startswith("x86-openvino ") for line in result.stdout.lines)

    tree = json.loads(project.baseline.read_text(encoding="utf-8"))["data"]["embedded"]
    assert set(tree["recorded"]) == {key("torch"), key("openvino")}
    assert set(tree["recorded"][key("openvino")]) == {"x86-openvino"}
    assert "openvino " in tree["recorded"][key("openvino")]["x86-openvino"]["latency_ratio"]["versions"]
    assert "openvino" not in tree["recorded"][key("torch")]["x86"]["latency_ratio"]["versions"]
    assert "x86-openvino" not in tree["limits"], "those of x86 hold there too"

    (record,) = project.records()
    assert {r["qconfig"]: (r["runtime"], r["machine_key"]) for r in record["results"]} == {
        "x86": ("torch", None), "x86-openvino": ("openvino", key("openvino")),
    }  # fmt: skip
    assert {"onnx", "openvino"} <= set(record["versions"])
    assert "onnxruntime" not in record["versions"]

    again = project.run(*args)
    again.assert_outcomes(passed=9)
    again.stdout.fnmatch_lines(["ptq: * drift=judged"])
    assert "no record:" not in output(again)
    project.run(*X86, "--collect-only").stdout.no_fnmatch_line("*runtime=*")


def test_a_limit_of_the_runtime_binds_before_that_of_the_qconfig(project: Project) -> None:
    limits(project, x86_openvino={"size_reduction_x": 99.0})
    result = project.run("--ptq-runtime=torch,openvino", *X86, "--ptq-metrics=size")
    result.assert_outcomes(passed=1, failed=1)
    text = output(result)
    assert "size of tiny[x86-openvino] on embedded data: FAIL" in text
    assert f"  runtime    openvino {interface._version('openvino')}" in text
    assert "--ptq-runtime torch,openvino" in next(line for line in text.splitlines() if "reproduce" in line)
    assert f"nothing recorded for {key('openvino')}" in text


def test_a_runtime_that_refuses_a_model_fails_its_own_items(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_ptq.errors import ExportError
    from pytest_ptq.runner.exported import Exported

    real = Exported._write

    def refusing(self: Any, *args: Any) -> Path:
        if self._runtime == "onnxruntime":
            raise ExportError("there is no Frobnicate in ONNX", place="layer4.frob")
        return real(self, *args)

    monkeypatch.setattr(Exported, "_write", refusing)
    limits(project)
    result = project.run("--ptq-runtime=all", *X86, "--ptq-metrics=accuracy,size")
    result.assert_outcomes(passed=4, failed=2)
    assert "tiny[x86-onnxruntime]: accuracy: export: layer4.frob: there is no Frobnicate in ONNX" in output(result)
    (record,) = project.records()
    failed = next(r for r in record["results"] if r["qconfig"] == "x86-onnxruntime")
    assert (failed["runtime"], failed["machine_key"]) == ("onnxruntime", key("onnxruntime"))


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the measurement that chooses finds, in ms by runtime; it may be changed."""
    found = {"torch": 3.0, "onnxruntime": 2.0, "openvino": 1.0}

    def in_turn(jobs: Any) -> Any:
        yield from ((name, found[name]) for name in jobs)

    monkeypatch.setattr("pytest_ptq.runner.fastest.time_in_turn", in_turn)
    return found


def test_the_fastest_is_measured_judged_and_told(project: Project, times: dict[str, float]) -> None:
    limits(project)
    args = ("--ptq-runtime=fastest", *X86, "--junitxml=junit.xml")
    result = project.run(*args)
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(
        ["ptq: * runtime=fastest *", "x86-fastest *", "(openvino) *",
         "tiny?x86-fastest?: openvino is the fastest: 1.00 ms, onnxruntime 2.00, torch 3.00"]
    )  # fmt: skip
    (found,) = project.records()[0]["results"]
    assert (found["qconfig"], found["runtime"], found["machine_key"]) == ("x86-fastest", "openvino", key("openvino"))
    assert found["runtime_ms"] == times
    properties = (project.path / "junit.xml").read_text(encoding="utf-8")
    assert '<property name="ptq_runtime" value="openvino" />' in properties
    assert '<property name="ptq_fastest_torch_ms" value="3.0" />' in properties
    assert f'<property name="ptq_machine" value="{key("openvino")}" />' in properties

    times["onnxruntime"] = times["openvino"]
    said = "tiny?x86-fastest?: onnxruntime is the fastest: 1.00 ms, openvino 1.00, torch 3.00"
    project.run(*args).stdout.fnmatch_lines([said])
    times["onnxruntime"] = 2.0
    times["torch"] = 0.5
    result = project.run(*args)
    result.assert_outcomes(passed=4, skipped=1)  # of torch there is no agreement to ask
    (found,) = project.records()[2]["results"]
    assert (found["runtime"], found["machine_key"]) == ("torch", None)


def test_a_runtime_that_takes_no_part_is_told(
    project: Project, times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_ptq.errors import ExportError
    from pytest_ptq.runner.exported import Exported

    def refusing(self: Any, *args: Any) -> Path:
        raise ExportError(f"{self._runtime} has no such thing")

    monkeypatch.setattr(Exported, "_write", refusing)
    limits(project)
    result = project.run("--ptq-runtime=fastest", *X86, "--ptq-metrics=size")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*torch is the fastest: 3.00 ms; onnxruntime does not run it: *; openvino does not *"])
    (found,) = project.records()[0]["results"]
    assert set(found["runtime_errors"]) == {"onnxruntime", "openvino"}


def test_what_was_judged_is_saved_in_the_form_that_is_deployed(project: Project) -> None:
    limits(project)
    project.run("--ptq-runtime=torch,openvino", *X86, "--ptq-metrics=size", "--ptq-save=out").assert_outcomes(passed=2)
    assert sorted(path.name for path in (project.path / "out").iterdir()) == [
        "tiny_x86-openvino.onnx", "tiny_x86.safetensors",
    ]  # fmt: skip


def test_onnxruntime_cannot_be_held_to_an_instruction_set(project: Project) -> None:
    from pytest_ptq.measure.machine import CPUINFO, parse_cpuinfo

    if "avx2" not in parse_cpuinfo(CPUINFO.read_text(encoding="utf-8"))[1]:
        pytest.skip("needs a CPU with AVX2")
    held = ("--ptq-suite", "tiny", *X86, "--ptq-isa", "avx2")
    result = project.pytester.runpytest_subprocess(*held, "--ptq-runtime", "onnxruntime")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--ptq-isa avx2: ONNX Runtime goes by the CPU alone and cannot be held to less" in output(result)
    limits(project)
    result = project.pytester.runpytest_subprocess(*held, "--ptq-runtime", "openvino", "--ptq-metrics", "accuracy")
    result.assert_outcomes(passed=1)
    (found,) = project.records()[0]["results"]
    assert found["machine_key"].startswith("avx2/openvino/")


def test_layers_are_tuned_for_a_runtime(project: Project) -> None:
    limits(project)
    result = project.run("--ptq-runtime=openvino", *X86, "--ptq-tune")
    assert result.ret == 0, output(result)
    result.stdout.fnmatch_lines(["--ptq-tune, tiny?x86-openvino?: keeps its limits as it is*"])
