"""Compiling the kernels: once for a machine, and a sentence where that cannot be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.nets import images
from pytest_ptq import engine
from pytest_ptq.engine.deployment import deploy
from pytest_ptq.engine.kernels.native import library


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and a CPU that has what is needed: nothing here runs a kernel."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "load", library.load.__wrapped__)
    monkeypatch.setattr(library, "_cpu_flags", lambda: library.NEEDED)


def script(folder: Path, body: str) -> str:
    """A C compiler of a few lines."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_an_instruction_that_the_cpu_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_cpu_flags", lambda: library.NEEDED - {"avx512_vnni"})
    assert library.why_not() == "this CPU has no avx512_vnni"


def test_a_cpu_that_is_held_back_is_judged_by_its_own_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "saturates_int16", lambda: True)
    assert library.why_not() == "torch's kernels are held back from VNNI"


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize("cap", ["AVX2", "avx2_vnni", "AVX2_VNNI_2", "AVX512_CORE", "SSE41"])
def test_an_older_instruction_set_is_kept_to(monkeypatch: pytest.MonkeyPatch, name: str, cap: str) -> None:
    """Whatever torch's own sums say: AVX2_VNNI sums as exactly as these kernels do."""
    monkeypatch.setattr(library, "saturates_int16", lambda: False)
    monkeypatch.setenv(name, cap)
    assert library.why_not() == f"torch's kernels are held to {cap.upper()}"


@pytest.mark.parametrize("cap", ["AVX512_CORE_VNNI", "AVX512_CORE_AMX", "ALL", "DEFAULT", ""])
def test_an_instruction_set_that_has_what_they_need_keeps_nothing_back(
    monkeypatch: pytest.MonkeyPatch, cap: str
) -> None:
    monkeypatch.setattr(library, "saturates_int16", lambda: False)
    monkeypatch.setenv("CC", "/no/such/compiler")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert library.why_not() == "the C compiler /no/such/compiler does not run"


def test_they_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.OFF, "0")
    assert library.why_not() == "PTQ_NATIVE is 0"


def test_a_machine_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert library.why_not() == "there is no C compiler (cc, gcc or clang; CC names another)"


def test_a_compiler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/no/such/compiler -m64")
    assert library.why_not() == "the C compiler /no/such/compiler does not run"


def test_what_the_compiler_said_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = script(tmp_path, '[ "$1" = --version ] && exit 0; echo "program.h: too new" >&2; exit 1')
    monkeypatch.setenv("CC", compiler)
    assert library.why_not() == f"the C compiler {compiler} failed: program.h: too new"
    assert [p.name for p in (tmp_path / "pytest-ptq").iterdir()] == [], "nothing half-made stays"


def test_what_is_no_library_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = 'for last; do :; done; [ "$1" = --version ] || echo nonsense > "$last"'
    monkeypatch.setenv("CC", script(tmp_path, body))
    assert library.why_not().startswith("the compiled kernels could not be loaded: ")


def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    body = f'for last; do :; done; [ "$1" = --version ] || {{ echo x >> {calls}; echo nonsense > "$last"; }}'
    monkeypatch.setenv("CC", script(tmp_path, body))
    assert library.why_not() == library.why_not() != ""
    assert calls.read_text() == "x\n"
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-O2"))
    library.why_not()
    assert calls.read_text() == "x\nx\n", "other flags are another library"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_others_may_write_in_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "pytest-ptq"
    folder.mkdir()
    folder.chmod(0o777)
    assert library.why_not() == f"others may write in {folder}"


def test_a_model_is_deployed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.OFF, "0")
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    data = [images(2, 16)]
    model = engine.quantize(net, data)
    found = deploy(model, data[0])
    assert (found.kernels in ("packed", "plain"), found.not_native) == (True, "PTQ_NATIVE is 0")
    assert torch.isfinite(found(data[0])).all()
