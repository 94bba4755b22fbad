"""The page on compiled kernels names what the code has, no more and no less."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from plugin.tiny_suite import Noise, Tiny

import pytest_ptq
from pages.fences import DOCS, blocks
from pytest_ptq.engine import deployment
from pytest_ptq.engine.deployment import emit, emit_float
from pytest_ptq.engine.deployment.native import VOCABULARY
from pytest_ptq.engine.kernels import native
from pytest_ptq.engine.kernels.native import library, structures

PAGE = (DOCS / "kernels.md").read_text(encoding="utf-8")


def tables() -> dict[str, list[tuple[str, list[str]]]]:
    """Head of the first column -> name and steps of each row."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for lines in re.findall(r"((?:^\|.*\n)+)", PAGE, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines.splitlines()]
        found[head[0]] = [(row[0].strip("`"), re.findall(r"`(\w+)`", row[1])) for row in rows]
    return found


def named(table: str) -> list[str]:
    return [name for name, _ in tables()[table]]


def test_every_layer_that_has_a_step_is_named_and_no_other() -> None:
    assert sorted(named("layer")) == sorted(layer.__name__ for layer in emit.LAYERS)
    floats = {layer.__name__ for layer in emit_float.LAYERS} | set(VOCABULARY.floats)
    assert sorted(named("layer or operation")) == sorted(floats)
    assert sorted(named("operation")) == sorted(VOCABULARY.moves)
    assert set(VOCABULARY.layers) == {*emit.LAYERS, *emit_float.LAYERS}


def test_every_kind_of_step_is_named_and_no_other() -> None:
    rows = [row for table in ("layer", "layer or operation", "operation") for row in tables()[table]]
    steps = {step for _, found in rows for step in found}
    assert steps | {"border"} == set(structures.KINDS)


def test_what_they_need_is_told_as_the_code_asks_for_it() -> None:
    cpu, compiler, _ = re.findall(r"^\| (?:CPU|C compiler|a folder) \|.*", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(avx\w+)`", cpu)) == library.NEEDED
    assert re.findall(r"`(\w+)`", compiler) == ["CC", "cc", "gcc", "clang"]
    assert f"`{' '.join(flag for flag in library.FLAGS if flag != '-w')}`" in PAGE
    assert f"given up after {library.COMPILE_S}." in PAGE
    assert f"`{library.OFF}=0`" in PAGE
    assert (deployment.STEP_SHARE, deployment.EXACT, deployment.native.KEPT) == (0.02, 1e-9, 4)
    text = re.sub(r"\s+", " ", PAGE)
    assert "differ by 2 % of the outputs' power (int8), by 1e-9 (float32)" in text
    assert "keeps the four that were built last" in text


def test_the_folder_is_the_one_that_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert library._folder() == tmp_path / "cache" / "pytest-ptq"
    assert library._folder().stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert library._folder() == tmp_path / ".cache" / "pytest-ptq"
    library._folder().chmod(0o770)
    with pytest.raises(native.UnavailableError, match="others may write"):
        library._folder()


def test_the_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block.text for block in blocks("kernels.md") if block.language == "python"]
    int8 = pytest_ptq.quantize(Tiny().build(), Noise().load().calibration(), "minmax")
    exec(example.replace("1, 3, 224, 224", "1, 3, 8, 8"), {"pytest_ptq": pytest_ptq, "torch": torch, "int8": int8})  # noqa: S102
    how, why = capsys.readouterr().out.splitlines()
    assert why == native.why_not()
    assert (how == "native program") is (not why)
