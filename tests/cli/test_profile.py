"""The command line: what it lists, what a profile counts, and one sentence for whatever is wrong."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pytest_ptq import cli
from pytest_ptq.cli.suites import CACHE
from pytest_ptq.engine.kernels import native
from pytest_ptq.metrics import Profile
from pytest_ptq.profiling import arithmetic_limit, profile
from pytest_ptq.qconfig import X86
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import load_suite

TINY = Path(__file__).parents[1] / "plugin" / "tiny_suite.py"
ROOT = Path(__file__).parents[2]
MACS = {"0": 16 * 3 * 9 * 64, "3": 32 * 16 * 9 * 16, "8": 320}
"""Of the tiny suite: two convolutions, 8 x 8 and 4 x 4, and a linear layer."""


@pytest.fixture
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ptq.profiling.arithmetic_limit", lambda threads: (400.0, "a layer", "a kernel"))


@pytest.fixture
def _not_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ptq.engine.deployment._native", lambda *_: (None, "a reason"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.py").write_text(TINY.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("_small_limit", "_not_native")
def test_a_profile_counts_what_every_layer_multiplies() -> None:
    found = profile(SuiteRun(load_suite(TINY, ()), threads=1), X86, repeats=1)
    assert {layer.name: layer.macs for layer in found.layers if layer.macs} == MACS
    named = {layer.name: layer for layer in found.layers}
    assert named["0"].shape == (1, 16, 8, 8)
    assert "qconv" in named["0"].kernel or "conv2d" in named["0"].kernel
    assert all(layer.ms > 0 for layer in found.layers)
    assert (found.suite, found.qconfig, found.shape, found.threads) == ("tiny", "x86", (1, 3, 8, 8), 1)
    assert (found.form, found.not_native) == ("graph", "a reason")


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())
def test_of_a_program_of_compiled_kernels_the_steps_are_timed() -> None:
    found = profile(SuiteRun(load_suite(TINY, ()), threads=1), X86, repeats=2)
    assert (found.form, found.not_native) == ("program", "")
    assert [(x.name, x.kernel, x.shape, x.macs) for x in found.layers] == [
        ("input_1.quantize", "native border + quantize", (1, 3, 8, 8), 0),
        ("0", "native border + product", (1, 16, 8, 8), MACS["0"]),
        ("3", "native product", (1, 32, 4, 4), MACS["3"]),
        ("6", "native mean", (1, 32, 1, 1), 0),
        ("8", "native product", (1, 10), MACS["8"]),
    ]
    assert all(layer.ms > 0 for layer in found.layers)
    assert found.whole_ms > 0 < found.walk_ms


def test_without_compiled_kernels_the_limit_is_that_of_the_layer_that_reached_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch import nn

    def layers() -> object:
        return {
            name: (lambda: nn.Sequential(nn.Linear(8, 8)).eval(), (rows, 8))
            for name, rows in (("small", 1), ("large", 4096))
        }

    monkeypatch.setattr(native, "why_not", lambda: "there is no C compiler")
    monkeypatch.setattr("pytest_ptq.profiling._large_layers", layers)
    rate, layer, kernel = arithmetic_limit(threads=1, repeats=3)
    assert layer == "large", "4,096 times as much work, for far less than 4,096 times the time"
    assert kernel.endswith("linear_pointwise")
    assert rate > 0


def test_the_limit_of_compiled_kernels_is_what_registers_reach_at_best(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 2.0, 2.0, 3.0, 3.0, 5.0])
    asked: list[int] = []

    def multiply(rounds: int, threads: int) -> int:
        asked.append(threads)
        return 3 * 10**9

    monkeypatch.setattr(native, "why_not", lambda: "")
    monkeypatch.setattr(native, "multiply", multiply)
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    rate, what, kernel = arithmetic_limit(threads=2, repeats=3)
    assert (rate, kernel) == (3.0, "native vpdpbusd")
    assert "registers" in what
    assert asked == [2, 2, 2]


@pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())
def test_registers_multiply_as_often_as_they_are_told_to() -> None:
    assert native.multiply(3, 2) == 3 * 2 * 16 * 64


@pytest.mark.usefixtures("project", "_small_limit")
def test_profile_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", "tiny", "--threads", "1", "--repeats", "2", "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny[x86], input 1 x 3 x 8 x 8, 1 thread, median of 2"
    assert lines[2].split()[:4] == ["layer", "kernel", "output", "ms"]
    assert sum(line.startswith("the other") for line in lines) == 1


def test_options_reach_the_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def instead(run: SuiteRun, qconfig: object, repeats: int) -> Profile:
        seen.extend((run.kind, run.threads, qconfig.name, repeats, run.cache))  # type: ignore[attr-defined]
        return Profile("tiny", "minmax", (1, 3, 8, 8), 3, 7, (), 1.0, 1.0, 1.0, "none", "none", "graph", "")

    monkeypatch.setattr("pytest_ptq.profiling.profile", instead)
    (project / CACHE).mkdir(parents=True)
    args = ["profile", "tiny", "--qconfig", "minmax", "--threads", "3", "--repeats", "7", "--data", "embedded"]
    assert cli.main(args) == 0
    assert seen == ["embedded", 3, "minmax", 7, CACHE]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "Missing command. See pytest-ptq --help."),
        (["profile"], "Missing argument 'SUITE'. See pytest-ptq profile --help."),
        (["profil", "tiny"], "unknown command 'profil'. Did you mean 'profile'?"),
        (["profile", "tiny", "--thread", "1"], "No such option"),
        (["profile", "tinny"], "unknown suite 'tinny'. Did you mean 'tiny'?"),
        (["profile", "tiny", "--qconfig", "x87"], "unknown qconfig 'x87'. Did you mean 'x86'?"),
        (
            ["profile", "tiny", "--qconfig", "x86-openvino"],
            "x86-openvino: layers are timed in torch only. Give --qconfig x86",
        ),
        (["profile", "tiny", "--data", "embeded"], "--data: unknown kind of data 'embeded'. Did you mean 'embedded'?"),
        (["profile", "tiny", "--data", "imagenet"], "Write --data imagenet=DIR."),
        (["profile", "tiny", "--data", "imagenet=x"], "unknown kind of data 'imagenet'"),
        (["profile", "tiny", "--weights", "none.pt"], "--weights none.pt: there is no such file"),
        (["profile", "tiny", "--threads", "0"], "Invalid value for '--threads': 0 is not in the range x>=1"),
        (["profile", "tiny", "--top", "-1"], "Invalid value for '--top': -1 is not in the range x>=1"),
        (["profile", "tiny", "--repeats", "\N{SUPERSCRIPT TWO}"], "is not a valid integer range"),
    ],
)
@pytest.mark.usefixtures("project")
def test_misuse_is_one_sentence_and_exit_code_4(
    args: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = cli.main(args)
    except SystemExit as leaving:
        status = leaving.code
    said = capsys.readouterr()
    assert status == 4
    assert sentence in said.err
    assert said.err.startswith("ERROR: usage: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_broken_suite_is_no_misuse(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "suites" / "tiny.py").write_text("raise OSError('no\x1b luck')\n", encoding="utf-8")
    assert cli.main(["profile", "tiny"]) == 1
    assert cli.main(["list"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert r"no\x1b luck" in said.err
    assert "resnet50" in said.out, "the others are listed all the same"


@pytest.mark.usefixtures("project")
def test_list_tells_data_and_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert any(name == "tiny" and rest.split() == ["embedded", "-"] for name, rest in rows)
    assert any(name == "resnet50" and "ResNet50 (25.6 M parameters)" in rest for name, rest in rows)


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys\nfrom pytest_ptq import cli\nassert cli.main(['list']) == 0\n"
        "assert not {'torch', 'numpy', 'pytest', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_the_script_is_declared() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"pytest-ptq": "pytest_ptq.cli:main"}
