"""What the README shows is run, so that it stays true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from pytest_ptq.sources import TorchvisionModel
from pytest_ptq.suite import load_suite

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def block(word: str) -> str:
    (found,) = [text for text in BLOCKS if word in text]
    return found


def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    model = TorchvisionModel("mobilenet_v2", classes=10, weights="random").build()
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    exec(block("ptq.prepare"), {"model": model, "batches": [x], "data": [(x, torch.tensor([0, 1, 2, 3]))]})  # noqa: S102
    shown = capsys.readouterr().out
    pattern = (
        r"QuantizedConvReLU2d\(32, 32, kernel_size=\(3, 3\), stride=\(1, 1\), scale=[\d.e-]+, zero_point=0, "
        r"padding=\(1, 1\), groups=32\)"
    )
    assert re.search(pattern, shown)
    assert (tmp_path / "model.int8.safetensors").exists()


def test_the_suite_file(tmp_path: Path) -> None:
    path = tmp_path / "my_suite.py"
    path.write_text(block("suite = Suite("), encoding="utf-8")
    assert load_suite(str(path), []).name == "my_resnet18"


def test_the_marker(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest, torch
        from torch import nn

        @pytest.fixture
        def my_model():
            torch.manual_seed(0)
            layers = [nn.Conv2d(3, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
            return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 4)).eval()

        @pytest.fixture
        def my_batches():
            return [torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))]

        @pytest.fixture
        def my_loader():
            images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(2))
            return [(images, torch.zeros(8, dtype=torch.long))]
        """
    )
    # Of the tiny model's speed and size nothing is promised: those limits are taken out, the rest is the README's.
    text = block("@pytest.mark.ptq").replace(", min_size_reduction=3.5, max_latency_ratio=0.6", "")
    assert text != block("@pytest.mark.ptq")
    pytester.makepyfile(text.replace("max_accuracy_drop=1.0", "max_accuracy_drop=100.0"))
    pytester.runpytest_inprocess("-p", "no:xdist").assert_outcomes(passed=2)


def test_every_public_name_is_there() -> None:
    import pytest_ptq

    for name in pytest_ptq.__all__:
        assert getattr(pytest_ptq, name) is not None
