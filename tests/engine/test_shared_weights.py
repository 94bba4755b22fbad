"""Int8 weights that models made of the same float weights share, and when they do not."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.weak import TensorWeakRef

from pytest_ptq.engine import pipeline
from pytest_ptq.engine.affine import quantize_weight, weight_scales
from pytest_ptq.engine.modules import QuantizedConv2d
from pytest_ptq.engine.modules.shared import quantized_weight


def weight() -> Tensor:
    return torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))


def same(w: Tensor, per_channel: bool = True, largest: int | None = None) -> bool:
    """Whether what is found is what is made of the weight as it is now."""
    found, scales = quantized_weight(w, per_channel, largest)
    expected = weight_scales(w, per_channel, largest)
    return torch.equal(scales, expected) and torch.equal(found, quantize_weight(w, expected))


def test_the_same_weight_is_quantized_once_for_each_way() -> None:
    w = weight()
    kept = [quantized_weight(w, *how) for how in ((True, None), (False, None), (True, 255), (True, 181))]
    again = quantized_weight(w, True)
    assert again[0] is kept[0][0]
    assert again[1] is kept[0][1]
    assert len({id(found) for found, _ in kept}) == 4
    assert all(same(w, *how) for how in ((True, None), (False, None), (True, 255), (True, 181)))


def test_an_equal_weight_is_another_one() -> None:
    w, other = weight(), weight()
    kept = quantized_weight(w, True)
    assert quantized_weight(other, True)[0] is not kept[0]


WRITES: dict[str, Callable[[Tensor, Tensor, Tensor], object]] = {
    "the float weight": lambda w, found, scales: w.mul_(2),
    "its int8 weight": lambda w, found, scales: found.zero_(),
    "its scales": lambda w, found, scales: scales.mul_(2),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_was_written_to_is_made_anew(what: str) -> None:
    w = weight()
    kept = quantized_weight(w, True)
    WRITES[what](w, *kept)
    assert same(w)
    assert quantized_weight(w, True)[0] is not kept[0]


def test_in_inference_mode_nobody_counts_writes() -> None:
    with torch.inference_mode():
        w = weight()
        kept = quantized_weight(w, True)
        w.mul_(2)
        assert same(w)
        assert quantized_weight(w, True)[0] is not kept[0]


def test_nothing_is_kept_alive() -> None:
    w = weight()
    found = quantized_weight(w, True)
    made, source = [TensorWeakRef(t) for t in found], TensorWeakRef(w)
    del found
    gc.collect()
    assert [ref() for ref in made] == [None, None]
    assert same(w)
    del w
    gc.collect()
    assert source() is None


def test_qconfigs_share_the_weights_that_they_have_in_common() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    prepared = pipeline.prepare(model, "x86")
    calibration = pipeline.calibrate(prepared, [x])
    names = ("x86", "entropy", "minmax")
    models = {name: pipeline.convert(prepared, calibration, name) for name in names}
    layers = {n: [m for m in made.modules() if isinstance(m, QuantizedConv2d)] for n, made in models.items()}
    assert all(a.weight is b.weight for a, b in zip(layers["x86"], layers["entropy"], strict=True))
    assert all(a.weight is not b.weight for a, b in zip(layers["x86"], layers["minmax"], strict=True))
    for name in names:
        alone = pipeline.convert(pipeline.prepare(model, "x86"), calibration, name)
        assert torch.equal(models[name](x), alone(x))
