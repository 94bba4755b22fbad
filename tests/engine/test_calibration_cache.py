"""Statistics kept between runs: used only for the very same model and data, and never a reason to fail."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from engine.nets import images, residual_net
from pytest_ptq import engine
from pytest_ptq.engine import calibration_cache
from pytest_ptq.engine.calibrate import Calibration
from pytest_ptq.engine.calibration_cache import KEPT, calibrated, read
from pytest_ptq.engine.pipeline import calibrating
from pytest_ptq.errors import DataError, StoreError
from pytest_ptq.qconfig import MINMAX, X86, QConfig

BATCHES = [images(4), images(2, seed=2) * 3]


def silent(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
    yield from items


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each batch that went through the model."""
    found: list[int] = []
    real = calibrating.run_stage

    def counted(module: Any, x: Tensor, place: str) -> Any:
        found.append(len(x))
        return real(module, x, place)

    monkeypatch.setattr(calibrating, "run_stage", counted)
    return found


def collect(
    folder: Path | None, model: nn.Module | None = None, batches: list[Any] | None = None, qconfig: QConfig = X86
) -> Calibration:
    prepared = engine.prepare(residual_net() if model is None else model, qconfig)
    return calibrated(folder, prepared, lambda: BATCHES if batches is None else batches, silent, calibrating.calibrate)


def same(one: Calibration, other: Calibration) -> bool:
    def rows(c: Calibration) -> list[tuple[str, dict[str, Any], list[float] | None]]:
        return [
            (name, {**vars(s), "counts": None}, None if s.counts is None else s.counts.tolist())
            for name, s in c.statistics.items()
        ]

    return one.images == other.images and rows(one) == rows(other)


@pytest.mark.parametrize("qconfig", [X86, MINMAX])
def test_the_second_run_reads_what_the_first_collected(tmp_path: Path, forwards: list[int], qconfig: QConfig) -> None:
    first = collect(tmp_path / "cache", qconfig=qconfig)
    assert forwards == [4, 2]
    second = collect(tmp_path / "cache", qconfig=qconfig)
    assert forwards == [4, 2], "no image went through the model again"
    assert same(first, second)
    assert same(first, collect(None, qconfig=qconfig)), "and as without a cache"


def changed_weight() -> nn.Module:
    model = residual_net()
    with torch.no_grad():
        model.conv1.weight[0, 0, 0, 0] += 1e-6
    return model


def changed_graph() -> nn.Module:
    model = residual_net()
    model.conv2.padding = (0, 0)
    model.conv2.kernel_size = (1, 1)
    model.conv2.weight = nn.Parameter(model.conv2.weight[:, :, :1, :1].clone())
    return model


def nudged() -> list[Tensor]:
    other = [b.clone() for b in BATCHES]
    other[1][0, 0, 0, 0] += 1e-6
    return other


OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "a weight": lambda: {"model": changed_weight()},
    "the graph": lambda: {"model": changed_graph()},
    "a pixel": lambda: {"batches": nudged()},
    "fewer images": lambda: {"batches": BATCHES[:1]},
    "another order": lambda: {"batches": BATCHES[::-1]},
    "other batches of the same images": lambda: {"batches": [BATCHES[0][:2], BATCHES[0][2:], BATCHES[1]]},
    "other observers": lambda: {"qconfig": MINMAX},
}


@pytest.mark.parametrize("what", OTHERS)
def test_whatever_differs_is_calibrated_anew(tmp_path: Path, forwards: list[int], what: str) -> None:
    collect(tmp_path)
    forwards.clear()
    found = collect(tmp_path, **OTHERS[what]())
    assert sum(forwards) >= 4
    assert same(found, collect(None, **OTHERS[what]()))
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (calibration_cache, "COLLECTOR", calibration_cache.COLLECTOR + 1),
        (torch, "__version__", "9.9"),
        (torch.backends.cpu, "get_cpu_capability", str),
    ],
)
def test_another_collector_torch_or_processor_does_not_trust_it(
    tmp_path: Path, forwards: list[int], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: Any
) -> None:
    collect(tmp_path)
    monkeypatch.setattr(owner, name, value)
    collect(tmp_path)
    assert forwards == [4, 2] * 2


@pytest.mark.parametrize("name", ["cpu_name", "avx512_vnni", "l2_cache_size"])
def test_another_model_of_processor_does_not_trust_it(
    tmp_path: Path, forwards: list[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of one capability there are many, for which oneDNN chooses other kernels, or other blocks for their caches."""
    collect(tmp_path)
    changed = {**torch.cpu.get_capabilities(), name: "another"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: changed)
    collect(tmp_path)
    assert forwards == [4, 2] * 2


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"])
def test_kernels_held_to_other_instructions_do_not_trust_it(
    tmp_path: Path, forwards: list[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(name, raising=False)
    collect(tmp_path)
    monkeypatch.setenv(name, "AVX2")
    collect(tmp_path)
    assert forwards == [4, 2] * 2
    monkeypatch.setenv("AN_UNRELATED_SETTING", "1")
    collect(tmp_path)
    assert forwards == [4, 2] * 2


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-30_000] ^= 1
    path.write_bytes(data)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None], checksum: bool) -> None:
    with safetensors.safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()[calibration_cache.FORMAT])
        counts = file.get_tensor("counts")
    change(header["content"])
    if checksum:
        header["sha256"] = calibration_cache._checksum(header["content"], counts)
    meta = {calibration_cache.FORMAT: json.dumps(header)}
    path.write_bytes(safetensors.torch.save({"counts": counts}, metadata=meta))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "no safetensors": lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n."),
    "a flipped bit": flip,
    "another format": lambda path: path.write_bytes(safetensors.torch.save({"counts": torch.zeros(1)})),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "an edited range": lambda path: rewrite(path, lambda c: c["rows"][0].__setitem__(2, 1e9), checksum=False),
    "a range of NaN": lambda path: rewrite(path, lambda c: c["rows"][0].__setitem__(2, float("nan")), checksum=True),
    "other tensors": lambda path: rewrite(path, lambda c: c["rows"].pop(), checksum=True),
    "a stranger's key": lambda path: rewrite(path, lambda c: c.update(key="x"), checksum=True),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_ignored_and_written_anew(tmp_path: Path, forwards: list[int], damage: str) -> None:
    first = collect(tmp_path)
    (path,) = tmp_path.iterdir()
    DAMAGE[damage](path)
    assert same(first, collect(tmp_path))
    assert forwards == [4, 2] * 2
    if damage != "a folder":
        assert same(first, collect(tmp_path))
        assert forwards == [4, 2] * 2, "the new file is good"


def test_a_file_of_another_name_is_not_read(tmp_path: Path) -> None:
    first = collect(tmp_path)
    (path,) = tmp_path.iterdir()
    names = tuple(first.statistics)
    assert same(first, read(path, names))  # type: ignore[arg-type]
    other = path.rename(path.with_name(path.name.replace(path.stem[-1], "x")))
    assert read(other, names) is None
    assert read(tmp_path / "missing.safetensors", names) is None


def test_a_folder_that_cannot_be_written_to_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert same(collect(tmp_path / "file" / "cache"), collect(None))


def test_the_latest_used_files_stay(tmp_path: Path) -> None:
    for i in range(KEPT + 3):
        path = tmp_path / f"{i}.safetensors"
        path.write_bytes(b"")
        os.utime(path, (i, i))
    left = tmp_path / ".dead.tmp"
    left.write_bytes(b"")
    os.utime(left, (0, 0))
    collect(tmp_path)
    assert len(list(tmp_path.iterdir())) == KEPT
    assert not (tmp_path / "3.safetensors").exists()
    assert (tmp_path / "4.safetensors").exists()


def test_a_bad_batch_is_told_as_ever_and_nothing_is_kept(tmp_path: Path) -> None:
    for bad in (torch.full((1, 3, 16, 16), float("nan")), "text"):
        with pytest.raises(DataError, match="calibration batch 1"):
            collect(tmp_path, batches=[BATCHES[0], bad])
        assert list(tmp_path.iterdir()) == []


def test_no_batch_is_told_as_ever(tmp_path: Path) -> None:
    collect(tmp_path)
    with pytest.raises(DataError, match="no calibration batch"):
        collect(tmp_path, batches=[])


def test_what_cannot_be_stored_is_not_kept(
    tmp_path: Path, forwards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: object) -> list[bytes]:
        raise StoreError("a Strange cannot be stored")

    monkeypatch.setattr("pytest_ptq.engine.artifact.to_parts", refuse)
    assert same(collect(tmp_path), collect(tmp_path))
    assert forwards == [4, 2] * 2
    assert list(tmp_path.iterdir()) == []
