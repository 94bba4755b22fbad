"""What `python -m benchmarks gates` times: copies of the int8 model that are slower by what is added, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import gates_pool, gates_worker
from benchmarks.gates_worker import AGAIN, EXTRA, FP32_LAYER, INJECT, INT8, ONE_THREAD
from pytest_ptq import engine
from pytest_ptq.engine import deployment
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.measure.processes import CONTROL, REFERENCE

SLOWER = (*EXTRA, ONE_THREAD)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    fused, folder = engine.fuse(nn.Sequential(*layers).eval()), tmp_path_factory.mktemp("gates")
    int8 = engine.quantize(fused, [torch.rand(4, 3, 16, 16)])
    stored = {REFERENCE: fused, INT8: int8, INJECT: int8}
    return {name: str(engine.save(model, folder / f"{name}.safetensors")) for name, model in stored.items()}


def test_whatever_is_timed_is_deployed(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a model with 5 % more compute would also pay for Python between its layers, which int8 itself does not."""
    real, deployed = deployment.deploy, []

    def counted(model: QuantizedModule, *args: object, **options: object) -> deployment.DeployedModule:
        deployed.append(model)
        return real(model, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(deployment, "deploy", counted)
    models, x = gates_worker.load(files), torch.rand(1, 3, 16, 16)
    assert set(models) == {REFERENCE, CONTROL, INT8, AGAIN, FP32_LAYER, *SLOWER}
    expected = deployment.called_as_deployed(models[INT8], x)(x)
    for name, model in models.items():
        deployed.clear()
        called = deployment.called_as_deployed(model, x)
        for _ in range(12):  # the first of them measure how much is to be added
            found = called(x)
        assert len(deployed) == 1, name
        if name not in (REFERENCE, CONTROL):
            assert torch.equal(found, expected), name


def test_without_the_file_nothing_is_made_slower(files: dict[str, str]) -> None:
    usual = {name: path for name, path in files.items() if name != INJECT}
    assert set(gates_worker.load(usual)) == {REFERENCE, CONTROL, INT8, AGAIN}


def test_a_thread_that_was_taken_away_is_given_back() -> None:
    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        slower = gates_worker.one_thread_fewer(lambda x: seen.append(torch.get_num_threads()))
        slower(torch.zeros(1))
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_other_sources_timed_is_in_no_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_of = tmp_path / "engine"
    engine_of.mkdir()
    (engine_of / "deploy.py").write_text("faster = False\n", encoding="utf-8")
    monkeypatch.setattr(gates_pool, "FOLDER", tmp_path / "gates")
    monkeypatch.setattr(gates_pool, "TIMED_BY", (engine_of,))
    fresh = gates_pool.folder.__wrapped__
    monkeypatch.setattr(gates_pool, "folder", fresh)
    before = fresh()
    before.mkdir(parents=True)
    (before / "idle.jsonl").write_text("", encoding="utf-8")
    assert gates_pool.pool("idle") == []
    assert fresh() == before, "an interrupted collection goes on"
    (engine_of / "deploy.py").write_text("faster = True\n", encoding="utf-8")
    assert fresh() != before
    monkeypatch.setattr(gates_pool, "version", lambda name: "2.16.0")
    assert fresh().name.startswith("torch2.16.0-")
