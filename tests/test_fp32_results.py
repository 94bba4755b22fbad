"""fp32 logits between runs: used for the same model, data and machine, for nothing else, and never to a run's harm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from pytest_ptq import fp32_results
from pytest_ptq.measure.content import Content
from pytest_ptq.measure.machine import describe_machine
from pytest_ptq.metrics import Measurement
from pytest_ptq.qconfig import MINMAX, X86, QConfig
from pytest_ptq.runner import SuiteRun
from pytest_ptq.store import logits as store
from pytest_ptq.suite import Suite, Variant

Result = tuple[list[str], dict[str, Measurement]]


def build(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    return nn.Sequential(*layers).eval()


class Noise:
    name = "noise"

    def __init__(self, pixel: float | None = None, batch: int = 16) -> None:
        self.images = torch.rand(96, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        if pixel is not None:
            self.images[-1, -1, -1, -1] = pixel
        with torch.inference_mode():
            self.labels = build()(self.images).argmax(1)
        self.batch = batch

    def load(self, argument: str | None = None) -> Noise:
        return self

    def calibration(self) -> list[Tensor]:
        return list(self.images[:32].split(16))

    def calibration_labels(self) -> list[int]:
        return self.labels[:32].tolist()

    def evaluation(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.images[32:].split(self.batch), self.labels[32:].split(self.batch), strict=True))

    def fingerprints(self) -> tuple[Iterator[str], Iterator[str]]:
        return map(str, range(32)), map(str, range(32, 96))


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Result]:
    """judged(data, model, qconfigs) is a run: the passes over data that it took, and what the last qconfig measured."""

    def judge(
        data: Noise | None = None,
        model: Callable[[], nn.Module] = build,
        qconfigs: tuple[QConfig, ...] = (X86,),
        cache: Path | None = tmp_path,
    ) -> Result:
        titles: list[str] = []

        def progress(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
            titles.append(title)
            yield from items

        suite = Suite("tiny", {"embedded": Variant(model, data or Noise())}, qconfigs, (1, 3, 8, 8))
        run = SuiteRun(suite, progress=progress, results_cache=cache)
        found = [run.measure("accuracy", q) for q in qconfigs]
        return [title for title in titles if title.startswith("evaluating")], dict(found[-1])

    return judge


COLD, WARM = ["evaluating x86", "evaluating fp32"], ["evaluating x86"]


def test_the_second_run_computes_no_fp32_and_measures_the_same(judged: Callable[..., Result]) -> None:
    alone = judged(cache=None)
    first, second = judged(), judged()
    assert [passes for passes, _ in (alone, first, second)] == [COLD, COLD, WARM]
    assert alone[1] == first[1] == second[1]


def test_one_lookup_serves_all_qconfigs(judged: Callable[..., Result]) -> None:
    assert judged(qconfigs=(MINMAX, X86))[0] == ["evaluating minmax", "evaluating fp32", "evaluating x86"]
    assert judged(qconfigs=(MINMAX, X86))[0] == ["evaluating minmax", "evaluating x86"]


@pytest.mark.parametrize(
    "other",
    [{"data": Noise(pixel=0.25)}, {"data": Noise(batch=32)}, {"model": lambda: build(1)}],
    ids=["one-pixel", "batches", "weights"],
)
def test_other_data_and_models_are_others(judged: Callable[..., Result], other: dict[str, Any]) -> None:
    judged()
    assert judged(**other)[0] == COLD
    assert judged(**other)[0] == WARM
    assert judged()[0] == WARM, "and both are kept"


def test_another_torch_machine_setting_or_engine_is_another(
    judged: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = describe_machine(torch.get_num_threads())
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "freeze.py").write_text("faster = True\n", encoding="utf-8")
    judged()

    def becomes(owner: object, name: str, value: object) -> None:
        with monkeypatch.context() as changed:
            changed.setattr(owner, name, value)
            assert judged()[0] == COLD, name
            assert judged()[0] == WARM, name

    becomes(torch, "__version__", "2.15.1+cpu")
    becomes(torch.version, "git_version", "f00")
    becomes(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    becomes(fp32_results, "describe_machine", lambda threads: replace(machine, cpu="another"))
    becomes(fp32_results, "describe_machine", lambda threads: replace(machine, isa="avx2"))
    becomes(fp32_results, "ENGINE", tmp_path / "engine")
    with monkeypatch.context() as changed:
        changed.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
        assert judged()[0] == COLD
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert judged()[0] == COLD, "threads may sum in another order"
    finally:
        torch.set_num_threads(before)
    assert judged()[0] == WARM


def _flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        lambda content: content[:-40],
        lambda _: b"",
        lambda _: safetensors.torch.save({"logits": torch.ones(64, 10)}),
    ],
    ids=["bit", "short", "empty", "foreign"],
)
def test_a_damaged_file_is_as_good_as_none(
    judged: Callable[..., Result], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    _, expected = judged()
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    passes, found = judged()
    assert passes == COLD
    assert found == expected
    assert file.read_bytes() == whole, "and is replaced"


def test_a_file_under_another_name_is_not_believed(judged: Callable[..., Result], tmp_path: Path) -> None:
    judged()
    judged(model=lambda: build(1))
    one, other = tmp_path.glob("*.safetensors")
    one.write_bytes(other.read_bytes())
    assert sorted((judged()[0], judged(model=lambda: build(1))[0])) == [WARM, COLD]


def test_a_folder_that_cannot_be_written_to_does_no_harm(judged: Callable[..., Result], tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")
    assert judged(cache=blocked)[0] == COLD
    assert judged(cache=blocked / "below")[0] == COLD


def test_without_a_folder_nothing_is_hashed(judged: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, x: object) -> None:
        raise AssertionError("hashed")

    monkeypatch.setattr(Content, "add", refuse)
    assert judged(cache=None)[0] == COLD


def test_the_latest_used_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    rows = torch.ones(4, 10)
    for age, key in enumerate(("new", "old", "oldest")):
        store.write_logits(tmp_path, key, rows)
        os.utime(tmp_path / f"{key}.safetensors", (1000 - age, 1000 - age))
    size = (tmp_path / "new.safetensors").stat().st_size
    monkeypatch.setattr(store, "TOTAL", 3 * size)
    assert store.read_logits(tmp_path, "oldest", 4) is not None, "which is now the latest used"
    store.write_logits(tmp_path, "more", rows)
    assert {path.stem for path in tmp_path.iterdir()} == {"more", "oldest", "new"}
    monkeypatch.setattr(store, "LARGEST", rows.nbytes - 1)
    store.write_logits(tmp_path, "large", rows)
    assert store.read_logits(tmp_path, "large", 4) is None


@pytest.mark.parametrize("rows", [torch.full((4, 10), torch.nan), torch.ones(4, 10).double(), torch.ones(5, 10)])
def test_logits_that_cannot_be_are_not_believed(tmp_path: Path, rows: Tensor) -> None:
    store.write_logits(tmp_path, "key", rows)
    assert store.read_logits(tmp_path, "key", 4) is None


def test_content_is_values_shape_type_layout_and_order() -> None:
    x = torch.arange(48.0).reshape(2, 2, 3, 4)
    seen = [
        [x],
        [x + 1],
        [x.double()],
        [x.reshape(2, 2, 4, 3)],
        [x.contiguous(memory_format=torch.channels_last)],
        [x[:1], x[1:]],
        [x[1:], x[:1]],
    ]
    digests = set()
    for batches in seen:
        content = Content()
        for batch in batches:
            content.add(batch)
        digests.add(content.hexdigest())
    assert len(digests) == len(seen)


def test_batches_go_by_untouched() -> None:
    batches: list[Any] = [(torch.ones(1), "label"), "no pair", (), [torch.zeros(1), 2]]
    assert all(given is got for given, got in zip(batches, Content().watch(batches), strict=True))
