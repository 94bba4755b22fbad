"""`--ptq-isa`: the same run in a process whose kernels are held back, as a person starts it."""

from __future__ import annotations

import json

import pytest

from plugin.project import Project, output
from pytest_ptq.errors import UsageError
from pytest_ptq.measure.machine import CPUINFO, parse_cpuinfo
from pytest_ptq.plugin import isa

FLAGS = parse_cpuinfo(CPUINFO.read_text(encoding="utf-8"))[1]
needs_avx2 = pytest.mark.skipif("avx2" not in FLAGS, reason="needs a CPU with AVX2")


def held(project: Project, *args: str) -> pytest.RunResult:
    return project.pytester.runpytest_subprocess(
        "--ptq-suite", "tiny", "--ptq-qconfig", "x86", "--ptq-isa", "avx2", *args
    )


@needs_avx2
def test_a_held_run_judges_what_a_cpu_without_vnni_would_answer(project: Project) -> None:
    result = held(project)
    assert result.ret == 0
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["ptq: *isa=avx2 (--ptq-isa)*"])
    assert "latency" not in "\n".join(line for line in result.outlines if "::" in line)
    (record,) = project.records()
    assert record["machine"]["isa"] == "avx2"
    assert record["machine"]["vnni"] is False
    assert record["machine"]["key"].startswith("avx2/")
    assert record["machine"]["isa_held_by"] == "--ptq-isa avx2"
    # The kernels themselves say so: reduce_range follows them.
    assert record["results"][0]["reduce_range"] is True


@needs_avx2
def test_saturation_fails_the_gate_there_and_only_there(project: Project) -> None:
    """Weights and activations that are all as large as can be, in a qconfig that insists on eight bits."""
    project.edit_suite(
        "            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),\n        ).eval()  # fmt: skip",
        "            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),\n        ).eval()  # fmt: skip\n"
        "        model[3].weight.data.fill_(1.0)\n"
        "        model[3].weight.data[:, ::2] = torch.rand(32, 8, 3, 3).round()\n"
        "        return model",
    )
    project.edit_suite("        return nn.Sequential(", "        model = nn.Sequential(")
    project.edit_suite(
        '    name="tiny",',
        '    name="tiny", qconfigs=(QConfig("x86", activation_observer="minmax", reduce_range=False),),',
    )
    project.edit_suite("import Suite", "import QConfig, Suite")
    project.limits(sqnr_db=30.0)
    free = project.pytester.runpytest_subprocess("--ptq-suite", "tiny", "--ptq-metrics", "accuracy")
    result = held(project, "--ptq-metrics", "accuracy")
    if "avx512_vnni" in FLAGS or "avx_vnni" in FLAGS:
        assert free.ret == 0
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*--ptq-isa avx2*suites/tiny.py::test_accuracy*", "*1 failed*"])


@needs_avx2
def test_the_status_and_a_usage_error_are_passed_on(project: Project) -> None:
    assert held(project, "-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result = held(project, "--ptq-suite", "tinny")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert output(result).count("unknown suite 'tinny'") == 1


@needs_avx2
def test_what_is_recorded_there_is_kept_apart(project: Project) -> None:
    assert held(project, "--ptq-update-baseline", "all").ret == 0
    recorded = json.loads(project.baseline.read_text(encoding="utf-8"))["data"]["embedded"]["recorded"]
    assert all(key.startswith("avx2/") for key in recorded)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("--ptq-isa", "neon"),
            "unknown instruction set 'neon' in --ptq-isa. Known: avx2, avx_vnni, avx512, avx512_vnni.",
        ),
        (("--ptq-isa", "avx2", "--ptq-metrics", "latency"), "leaves nothing of --ptq-metrics latency"),
    ],
)
def test_values_that_cannot_be(project: Project, args: tuple[str, ...], said: str) -> None:
    result = project.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in output(result)
    assert "Traceback" not in output(result)


def test_an_instruction_set_that_the_cpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "_flags", lambda: frozenset({"avx2", "sse4_1"}))
    assert isa.check_isa("avx2") == "avx2"
    with pytest.raises(UsageError, match=r"this CPU has no avx512_vnni, .*Its best is avx2\."):
        isa.check_isa("avx512_vnni")


def test_the_environment() -> None:
    found = isa.environment("avx2", {"HOME": "/h", "DNNL_MAX_CPU_ISA": "ALL", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"})
    assert found == {
        "HOME": "/h", "ONEDNN_MAX_CPU_ISA": "AVX2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2", isa.MARK: "avx2",
    }  # fmt: skip


def test_a_process_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig()
    monkeypatch.setattr(isa, "_search_path", lambda: ["-c", "import os; os.kill(os.getpid(), 4)"])
    with pytest.raises(UsageError, match="held to avx2 was killed by signal 4"):
        isa.run_held(config, "avx2")
