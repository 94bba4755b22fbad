"""`--ptq-isa`: the same run in a process whose kernels are held back, as a person starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from plugin.project import Project, output
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.kernels.native import library
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
        "HOME": "/h", "ONEDNN_MAX_CPU_ISA": "AVX2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2", isa.MARK: "avx2",
    }  # fmt: skip


KERNELS = """
import json, torch
from torch import nn
from pytest_ptq import engine
from pytest_ptq.engine import kernels
from pytest_ptq.engine.deployment import deploy
from pytest_ptq.engine.kernels import native

torch.set_num_threads(1)
x = torch.rand(1, 3, 16, 16)
net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()
model = engine.quantize(net, [x])
made = deploy(model, x)
libraries = [line for line in open("/proc/self/maps") if "/pytest-ptq/kernels-" in line]
print(json.dumps({
    "saturates": kernels.saturates_int16(), "why_not": native.why_not(), "kernels": made.kernels,
    "not_native": made.not_native, "loaded": bool(libraries), "aten": torch.backends.cpu.get_cpu_capability(),
}))
"""


@pytest.mark.parametrize(("name", "saturates"), [("avx2", True), ("avx_vnni", None), ("avx512", True)])
def test_no_compiled_kernel_runs_below_avx512_vnni(name: str, saturates: bool | None) -> None:
    """They are AVX512-VNNI. A CPU that has avx_vnni and no AVX512 sums exactly, so sums alone would let them in."""
    found = in_environment(name)
    onednn, _, aten = isa.HELD_ISAS[name]
    assert found["loaded"] is False
    assert found["kernels"] in ("packed", "plain")
    assert str(found["not_native"]) == found["why_not"] != ""
    if FLAGS >= library.NEEDED:
        assert found["why_not"] == f"torch's kernels are held to {onednn}"
        assert found["aten"] == aten.upper()
        # oneDNN falls back from AVX2_VNNI to AVX2 on a CPU that lacks it.
        assert saturates is None or found["saturates"] is saturates


@pytest.mark.skipif(not library.NEEDED <= FLAGS, reason="needs a CPU with AVX512-VNNI")
def test_compiled_kernels_run_where_they_are_allowed() -> None:
    found = in_environment("avx512_vnni")
    assert (found["saturates"], found["aten"]) == (False, "AVX512")
    if not native.why_not():
        assert (found["loaded"], found["kernels"], found["not_native"]) == (True, "native", "")


def in_environment(name: str) -> dict[str, object]:
    """What a process that is held to `name` finds, whether or not this CPU has it."""
    usual = {key: value for key, value in os.environ.items() if key != library.OFF}
    done = subprocess.run(
        [sys.executable, "-c", KERNELS], env=isa.environment(name, usual), capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_process_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig()
    monkeypatch.setattr(isa, "_search_path", lambda: ["-c", "import os; os.kill(os.getpid(), 4)"])
    with pytest.raises(UsageError, match="held to avx2 was killed by signal 4"):
        isa.run_held(config, "avx2")
