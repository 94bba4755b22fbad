"""Bias correction: brings channel means back, is sequential, is kept only where it helps, and says so."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from engine.nets import Net, conv, images, residual_net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine import pipeline
from pytest_ptq.engine.convert import QuantizedModule
from pytest_ptq.engine.correct import bias, compare
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.errors import QuantizationError, UsageError
from pytest_ptq.qconfig import QConfig

TENSOR = QConfig("tensor", activation_observer="minmax", weight_granularity="per_tensor", reduce_range=False)
CORRECTED = QConfig("corrected", "minmax", "per_tensor", reduce_range=False, bias_correction=True)


def shifting_net() -> Net:
    """Channels a hundred times apart under one scale: the weights of the small ones all round the same way."""

    def compute(m: Net, x: Tensor) -> Tensor:
        return m.fc(torch.flatten(m.pool(m.relu(m.conv2(m.relu(m.conv1(x))))), 1))

    net = Net(
        compute, conv1=conv(3, 8), conv2=conv(8, 8), relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1), fc=nn.Linear(8, 10)
    )
    with torch.no_grad():
        for layer in (net.conv1, net.conv2):
            layer.weight[1:] = 0.0043 * layer.weight[0].abs().max() * torch.sign(layer.weight[1:])
    return net


def batches(count: int = 8) -> list[Tensor]:
    return [images(4, 16, seed=i).abs() for i in range(count)]


def shifts_of(fused: FusedModule, quantized: QuantizedModule, data: Sequence[Tensor]) -> Mapping[str, Tensor]:
    return bias.bias_shifts(bias.Means(fused).targets(data), quantized, data)


def test_channel_means_come_back_layer_by_layer() -> None:
    fused, data = engine.fuse(shifting_net()), batches()
    quantized = engine.quantize(fused, data, TENSOR)
    before = shifts_of(fused, quantized, data)
    after = shifts_of(fused, bias.with_shifts(quantized, before), data)
    assert list(before) == ["conv1", "conv2", "fc"]
    for path in before:
        assert float(before[path].abs().max()) > 1e-3
        assert float(after[path].abs().max()) < 1e-5 + 1e-3 * float(before[path].abs().max()), path


def test_the_shift_of_a_layer_counts_what_came_before_it() -> None:
    """The fast kind, on fp32 inputs, would find the same for conv2 whether conv1 was corrected or not."""
    fused, data = engine.fuse(shifting_net()), batches()
    quantized = engine.quantize(fused, data, TENSOR)
    shifts = shifts_of(fused, quantized, data)
    first_only = bias.with_shifts(quantized, {"conv1": shifts["conv1"]})
    torch.testing.assert_close(shifts_of(fused, first_only, data)["conv2"], shifts["conv2"])
    spoilt = bias.with_shifts(quantized, {"conv1": shifts["conv1"] + 0.1})
    torch.testing.assert_close(shifts_of(fused, spoilt, data)["conv2"], shifts["conv2"])


def test_it_gains_where_means_shift() -> None:
    net, data, fresh = shifting_net(), batches(), images(16, 16, seed=99).abs()
    plain, corrected = (engine.quantize(net, data, q) for q in (TENSOR, CORRECTED))
    assert sqnr(run(net, fresh), run(corrected, fresh)) > sqnr(run(net, fresh), run(plain, fresh)) + 6
    assert len(corrected.notes) == 1
    assert corrected.notes[0].startswith("bias_correction: ")
    assert plain.notes == ()


def test_a_residual_that_shifted_is_corrected_with_the_sum() -> None:
    fused, data = engine.fuse(residual_net()), batches()
    quantized = engine.quantize(fused, data, TENSOR)
    shifts = shifts_of(fused, quantized, data)
    corrected = bias.with_shifts(quantized, shifts)
    again = shifts_of(fused, corrected, data)
    assert float(again["conv2"].abs().max()) < 1e-2 * float(shifts["conv2"].abs().max()) + 1e-6


def test_nothing_is_changed_in_place() -> None:
    fused, data = engine.fuse(shifting_net()), batches()
    quantized = engine.quantize(fused, data, TENSOR)
    states = [{k: v.clone() for k, v in model.state_dict().items()} for model in (quantized, fused)]
    bias.with_shifts(quantized, shifts_of(fused, quantized, data))
    for model, state in zip((quantized, fused), states, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_harm_is_noticed_and_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    wrong = {"conv1": torch.full((8,), 3.0)}
    monkeypatch.setattr(bias, "bias_shifts", lambda *_: wrong)
    with caplog.at_level(logging.WARNING):
        corrected = engine.quantize(shifting_net(), batches(), CORRECTED)
    plain, x = engine.quantize(shifting_net(), batches(), TENSOR), images(seed=5)
    assert torch.equal(run(corrected, x), run(plain, x))
    assert corrected.notes[0].startswith("bias_correction left out, it does harm: ")
    assert corrected.notes[0] in caplog.text


def test_images_to_compare_on_are_not_those_it_was_made_from() -> None:
    for given in (batches(8), batches(2), [images(5)]):
        kept, apart = compare.split(given)
        seen = {tuple(x.flatten().tolist()) for b in kept for x in b}
        assert all(tuple(x.flatten().tolist()) not in seen for b in apart for x in b)
        assert sum(map(len, kept)) + sum(map(len, apart)) == sum(map(len, given))
    kept, apart = compare.split([images(1)])
    assert torch.equal(kept[0], apart[0])


@pytest.mark.parametrize(("pixels", "count"), [(8, 32), (128, 32), (160, 20), (224, 16), (512, 16)])
def test_fewer_images_are_looked_at_where_each_has_more_positions(pixels: int, count: int) -> None:
    found = bias.enough(torch.zeros(8, 1, pixels, pixels) for _ in range(100))
    assert sum(map(len, found)) == count
    assert sum(map(len, bias.enough([torch.zeros(3, 1, pixels, pixels)]))) == 3


def test_halves_share_no_image_and_are_run_in_few_batches() -> None:
    numbered = torch.arange(70.0).view(70, 1, 1, 1)
    one, two = compare.halves(list(torch.split(numbered, 8)))
    assert [len(x) for x in (*one, *two)] == [32, 3, 32, 3]
    assert sorted(torch.cat([*one, *two]).flatten().tolist()) == list(range(70))
    unequal = [torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 6, 6)]
    assert sum(map(len, (x for half in compare.halves(unequal) for x in half))) == 4


def test_the_shift_is_the_mean_of_what_either_half_gives() -> None:
    fused, data = engine.fuse(shifting_net()), batches()
    quantized = engine.quantize(fused, data, TENSOR)
    found = bias.correction(fused, quantized, data)
    one, two = (shifts_of(fused, quantized, half) for half in compare.halves(data))
    for path, shift in found.shifts.items():
        torch.testing.assert_close(shift, (one[path] + two[path]) / 2)
        assert not torch.equal(one[path], two[path])
    assert found.after_db > found.before_db + 6


def test_what_is_kept_in_memory_is_bounded() -> None:
    endless = (images(4, 8, seed=i) for i in range(10**9))
    assert sum(map(len, compare.take(endless, 10))) == 10


def test_missing_batches_and_batches_that_can_be_read_once_are_errors() -> None:
    net, data = shifting_net(), batches()
    prepared = engine.prepare(net, CORRECTED)
    calibration = engine.calibrate(prepared, data)
    with pytest.raises(QuantizationError, match=r"^convert: qconfig corrected: bias_correction needs calibration"):
        engine.convert(prepared, calibration)
    by_hand = pipeline.convert(prepared, calibration, batches=data)
    x = images()
    assert torch.equal(run(by_hand, x), run(engine.quantize(net, data, CORRECTED), x))
    with pytest.raises(QuantizationError, match="read more than once"):
        engine.quantize(net, iter(data), CORRECTED)
    with pytest.raises(UsageError, match="bias_correction is 'yes'"):
        QConfig("q", bias_correction="yes")  # type: ignore[arg-type]
