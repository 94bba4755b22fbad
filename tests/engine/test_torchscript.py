"""The int8 model as a TorchScript file: the same answer in a process that knows torch alone."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

import pytest_ptq
from engine.nets import Net, conv, images, partly_fp32_net, randomize, residual_net, run
from pytest_ptq import engine
from pytest_ptq.engine import torchscript
from pytest_ptq.errors import StoreError


def volumes() -> nn.Module:
    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.relu6(m.a(torch.stack([x, x], 2)))
        return m.b(y).mean(2)

    return Net(compute, a=nn.Conv3d(3, 8, 3, padding=1), b=nn.Conv3d(8, 4, 1))


def many() -> nn.Module:
    """Residuals that broadcast, tables, gates, concatenation, names that Python does not allow."""

    def compute(m: Net, x: Tensor) -> Tensor:
        y = F.silu(m.a(x))
        y = m.b(y) + F.adaptive_avg_pool2d(y, 1)
        y = torch.cat([F.relu(y) * torch.sigmoid(m.b(y)), F.max_pool2d(y, 3, 1, 1)], 1)
        return m.c(F.pad(y, (1, 0, 1, 0))).flatten(1)

    return Net(compute, a=conv(3, 8), b=conv(8, 8), c=conv(16, 4))


def bare() -> nn.Module:
    return randomize(nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 1)))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "residual": (residual_net, images(4)),
    "partly fp32": (partly_fp32_net, images(4)),
    "mobilenet": (lambda: randomize(models.mobilenet_v3_small(num_classes=10)), images(3, 32)),
    "volumes": (volumes, images(3)),
    "many": (many, images(3)),
    "conv1d": (bare, torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))),
}


PROGRAM = """
import sys, warnings, torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
with torch.inference_mode():
    for name in sys.argv[1:]:
        model = torch.jit.load(f"deep/{name}.pt")
        torch.save([model(x) for x in torch.load(f"{name}.in") for _ in range(2)], f"{name}.out")
assert not any(name.startswith("pytest_ptq") for name in sys.modules)
"""


def test_a_process_without_this_package_answers_alike(tmp_path: Path) -> None:
    """Bit for bit, in batches of any size, also when the example is a single image; at the second call, too."""
    expected = {}
    for name, (build, x) in MODELS.items():
        quantized = engine.quantize(build(), [x])
        path = tmp_path / "deep" / f"{name}.pt"
        assert engine.save_torchscript(quantized, path, x[:1]) == path
        batches = [x, x[:1], torch.cat([x, x])]
        torch.save(batches, tmp_path / f"{name}.in")
        expected[name] = [run(quantized, batch) for batch in batches for _ in range(2)]
    subprocess.run([sys.executable, "-c", PROGRAM, *MODELS], cwd=tmp_path, check=True, timeout=120)
    for name, outputs in expected.items():
        found = torch.load(tmp_path / f"{name}.out")
        assert all(map(torch.equal, found, outputs)), name


def load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(path)


def test_another_size_of_image_is_an_error(tmp_path: Path) -> None:
    """It was traced: what depends on the size was taken down as it was."""
    loaded = load(engine.save_torchscript(engine.quantize(many(), [images()]), tmp_path / "m.pt", images()))
    with pytest.raises(torch.jit.Error, match=r"traced for inputs of size \[3, 16, 16\]"):
        loaded(images(2, 20))


def test_weights_are_in_the_file_once_and_the_model_stays_as_it_was(tmp_path: Path) -> None:
    quantized = engine.quantize(MODELS["mobilenet"][0](), [images(2, 32)])
    before, kinds = run(quantized, images(2, 32)), [type(layer) for layer in quantized.modules()]
    path = engine.save_torchscript(quantized, tmp_path / "m.pt", images(2, 32))
    assert path.stat().st_size < 1.3e6 * engine.size_mb(quantized)
    assert torch.equal(run(quantized, images(2, 32)), before)
    assert [type(layer) for layer in quantized.modules()] == kinds
    assert not any(isinstance(layer, torch.jit.ScriptModule) for layer in quantized.modules())


def test_what_was_loaded_can_be_written_as_torchscript(tmp_path: Path) -> None:
    quantized = engine.quantize(residual_net(), [images()])
    loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    x = images(3)
    assert torch.equal(load(engine.save_torchscript(loaded, tmp_path / "m.pt", x))(x), run(quantized, x))


def test_it_is_public_and_loaded_on_first_use() -> None:
    assert pytest_ptq.save_torchscript is engine.save_torchscript
    assert "save_torchscript" in dir(pytest_ptq)


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantized, x = engine.quantize(residual_net(), [images()]), images()
    with pytest.raises(StoreError, match="was given a Net"):
        engine.save_torchscript(residual_net(), tmp_path / "m.pt", x)
    with pytest.raises(StoreError, match=r"cannot be traced \(RuntimeError"):
        engine.save_torchscript(quantized, tmp_path / "m.pt", images(channels=4))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot write the TorchScript file"):
        engine.save_torchscript(quantized, tmp_path / "folder", x)
    with monkeypatch.context() as patched:
        patched.setattr(torchscript, "_same", lambda first, second: False)
        with pytest.raises(StoreError, match="computes something else than the model"):
            engine.save_torchscript(quantized, tmp_path / "m.pt", x)
    with monkeypatch.context() as patched:
        patched.delattr(torch.jit, "trace")
        with pytest.raises(StoreError, match=r"has no TorchScript\. Use pytest_ptq\.save"):
            engine.save_torchscript(quantized, tmp_path / "m.pt", x)
    assert not (tmp_path / "m.pt").exists()
