"""Inputs that were pixels: their grid is found and kept to, and what that shifts is taken out behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pytest_ptq.engine import artifact, kernels, pipeline
from pytest_ptq.engine.affine import PAIRED, QParams
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.modules import Quantize, QuantizedConv2d
from pytest_ptq.engine.observers import Grid, MinMaxObserver, Statistics, grid_qparams
from pytest_ptq.engine.observers.grid import FEWEST

PIXELS = torch.arange(256)
STEP = 2 / 255


def scaled(pixels: Tensor) -> Tensor:
    """Pixels as many models take them: -1..1, so that none of them is 0."""
    return pixels.float() / 127.5 - 1


def photographs(count: int = 4, size: int = 16) -> Tensor:
    return scaled(torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(0)))


def seen(*batches: Tensor) -> Statistics:
    observer = MinMaxObserver("x")
    observer.grid = Grid()
    for batch in batches:
        observer(batch)
    return observer.statistics()


@given(st.floats(1e-4, 10.0), st.floats(0.0, 255.0), st.integers(0, 255 - FEWEST), st.integers(0, 255 - FEWEST))
def test_every_pixel_is_stored_exactly(step: float, zero: float, first: int, missing: int) -> None:
    pixels = PIXELS[first : 256 - min(missing, 256 - FEWEST - first)]
    x = ((pixels.double() - zero) * step).float()
    found = grid_qparams(seen(x))
    reach = max(float(x.max()), 0.0) - min(float(x.min()), 0.0)
    if found is None:  # zero, which must be a number too, lies too far away
        assert reach / step > 254.5 or float(x.max()) < 0
        return
    q, shift = found
    stored = kernels.quantize(x, q, shift)
    assert torch.allclose((stored.double() - q.zero_point - shift) * q.scale, x.double(), atol=0.01 * step)
    assert abs(shift) <= 0.5 + 1e-6
    assert 0 <= q.zero_point <= 255
    assert torch.equal(stored.unique(), stored), "each pixel has an integer of its own, in order"


def test_the_grid_is_found_over_batches_in_any_order() -> None:
    low, high = scaled(PIXELS[:160]), scaled(PIXELS[100:])
    for batches in ((low, high), (high, low)):
        found = grid_qparams(seen(*batches))
        assert found is not None
        q, shift = found
        assert q.scale == pytest.approx(STEP, rel=1e-5)
        assert q.zero_point in (127, 128)
        assert abs(shift) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    "batches",
    [
        (torch.linspace(0, 1, 257) ** 2,),
        (scaled(PIXELS[: FEWEST - 1]),),
        (scaled(PIXELS), scaled(PIXELS[:5]) + 0.3 * STEP),
        (torch.cat([scaled(PIXELS), torch.tensor([0.0])]),),
        (torch.zeros(1000),),
        (torch.arange(200),),
    ],
    ids=["not linear", "few values", "beside it later", "one value beside it", "constant", "no floats"],
)
def test_what_lies_on_no_grid_has_none(batches: tuple[Tensor, ...]) -> None:
    assert seen(*batches).step is None


def test_more_steps_than_integers_are_no_grid_of_pixels() -> None:
    assert grid_qparams(seen(scaled(PIXELS), scaled(PIXELS + 1))) is None


def test_a_smaller_range_of_integers_keeps_its_own_rule() -> None:
    assert grid_qparams(seen(scaled(PIXELS)), PAIRED) is None


# --- in a model


class Net(nn.Module):
    def __init__(self, residual: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        # Weights of one sign: a shift of the input does not cancel in their sums.
        self.conv = nn.Conv2d(3, 3, 3, padding=1 if residual else 0)
        self.conv.weight.data.abs_()
        self.next = nn.Conv2d(3, 4, 3)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        found: Tensor = self.next(y + x if self.residual else y)
        return found


def quantized(residual: bool = False) -> tuple[Net, QuantizedModule]:
    net = Net(residual).eval()
    return net, pipeline.quantize(net, [photographs()])


def entry(model: QuantizedModule) -> Quantize:
    (found,) = (m for n, m in model.named_modules() if isinstance(m, Quantize) and n.startswith("x."))
    return found


def test_a_model_reads_pixels_without_error_and_without_shift() -> None:
    net, model = quantized()
    assert abs(entry(model).shift) == pytest.approx(0.5, abs=1e-3)
    layer = model.get_submodule("conv")
    assert isinstance(layer, QuantizedConv2d)
    x = photographs(2)
    sums = layer._run(
        kernels.quantize(x, entry(model).out, entry(model).shift), (1.0, 0, torch.float32, "none", [], "")
    )
    weight = layer.weight.float() * layer.scales.view(-1, 1, 1, 1)
    exact = torch.nn.functional.conv2d(x, weight, net.conv.bias)
    # Half a step too much at every pixel would be 27 weights times 0.004: a hundred times what is allowed here.
    assert torch.allclose(sums, exact, atol=1e-4)


def test_where_a_shift_cannot_be_taken_out_there_is_none() -> None:
    _, model = quantized(residual=True)
    assert entry(model).shift == 0


def test_the_shift_is_stored_with_the_model(tmp_path: Path) -> None:
    _, model = quantized()
    artifact.save(model, tmp_path / "model.ptq")
    again = artifact.load(tmp_path / "model.ptq")
    assert entry(again).shift == entry(model).shift
    assert torch.equal(again(photographs(2)), model(photographs(2)))


def test_a_zero_that_is_a_pixel_needs_no_shift() -> None:
    net = Net().eval()
    model = pipeline.quantize(net, [(photographs() + 1) / 2])
    assert entry(model).shift == 0
    assert entry(model).out == QParams(pytest.approx(1 / 255), 0)
