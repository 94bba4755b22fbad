"""Sums of two products beyond int16: counted by brute force, and by oneDNN itself when it is kept to AVX2."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.inspect import Saturation, saturation
from pytest_ptq.engine.modules import QuantizedConv2d, QuantizedLinear
from pytest_ptq.measure.machine import CPUINFO

ONE = QParams(1.0, 0)


def convolution(weight: Tensor, stride: int, padding: int, dilation: int, groups: int, x: QParams = ONE):
    pairs = [(value, value) for value in (stride, padding, dilation)]
    return QuantizedConv2d(weight, torch.ones(len(weight)), None, "none", x, None, *pairs, groups)


def pair_sums(x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, groups: int) -> Tensor:
    """Every sum of two products, (N, K, pairs, places): channels 2j and 2j + 1 of a group at one tap."""
    k, per_group, r, s = weight.shape
    columns = F.unfold(x.double(), (r, s), dilation=dilation, padding=padding, stride=stride)
    columns = columns.view(len(x), groups, per_group, r * s, -1)
    filters = weight.double().view(groups, k // groups, per_group, r * s)
    if per_group % 2:
        columns, filters = F.pad(columns, (0, 0, 0, 0, 0, 1)), F.pad(filters, (0, 0, 0, 1))
    products = columns[:, :, None] * filters[None, ..., None]
    sums = products[:, :, :, 0::2] + products[:, :, :, 1::2]
    return sums.reshape(len(x), k, -1, columns.shape[-1])


def integers(seed: int, large: float, *shape: int, low: int, high: int) -> Tensor:
    """Random integers, a share of which are as large as can be."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(low, high + 1, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < large, values.sign() * high, values)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    large=st.sampled_from([0.0, 0.3, 0.9]),
    channels=st.integers(1, 5),
    groups=st.integers(1, 3),
    kernel=st.integers(1, 3),
    geometry=st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(1, 2)),
)
def test_the_count_is_that_of_brute_force(
    seed: int, large: float, channels: int, groups: int, kernel: int, geometry: tuple[int, int, int]
) -> None:
    weight = integers(seed, large, 2 * groups, channels, kernel, kernel, low=-127, high=127).to(torch.int8)
    x = integers(seed + 1, large, 2, channels * groups, 6, 7, low=0, high=255).to(torch.uint8)
    found = saturation(convolution(weight, *geometry, groups), x)
    if channels == 1:
        assert found == Saturation()
        return
    sums = pair_sums(x, weight, *geometry, groups)
    beyond = int(((sums > 32767) | (sums < -32768)).sum())
    largest = pair_sums(torch.full_like(x, 255), weight.clamp(min=0), geometry[0], 0, geometry[2], groups)
    assert found is not None
    assert (found.pairs, found.overflowing) == (sums.numel(), beyond)
    assert beyond <= found.possible <= found.pairs
    assert found.possible or not bool((largest > 32767).any())


def test_the_bound_and_the_count_of_a_linear_layer() -> None:
    """127 * 255 + 2 * 255 just overflows, 127 * 255 + 1 * 255 does not; a sign keeps the rest apart."""
    weight = torch.tensor([[127, 2], [127, 1], [-127, -2], [127, -127]], dtype=torch.int8)
    layer = QuantizedLinear(weight, torch.ones(4), None, "none", ONE, None)
    x = torch.tensor([[255, 255], [255, 191], [255, 192], [0, 0]], dtype=torch.uint8)
    assert saturation(layer, x) == Saturation(16, 4, 8)  # 2 * 191 + 32385 is 32767: it fits


def test_the_smallest_of_int16_fits() -> None:
    """127 * 254 + 2 * 255 is 32768, which int16 holds as a negative number only."""
    x = torch.tensor([[254, 255]], dtype=torch.uint8)
    for sign, overflowing in ((1, 1), (-1, 0)):
        weight = torch.tensor([[sign * 127, sign * 2]], dtype=torch.int8)
        assert saturation(QuantizedLinear(weight, torch.ones(1), None, "none", ONE, None), x) == Saturation(
            1, overflowing, 1
        )


def test_seven_bits_never_overflow() -> None:
    weight = torch.full((4, 4, 1, 1), 127, dtype=torch.int8)
    layer = convolution(weight, 1, 0, 1, 1, QParams(1.0, 0, 0, 127))
    found = saturation(layer, torch.full((1, 4, 3, 3), 127, dtype=torch.uint8))
    assert found == Saturation(9 * 4 * 2, 0, 0)


def test_what_adds_no_pairs_has_no_figure() -> None:
    assert saturation(torch.nn.ReLU(), torch.zeros(1, 4, 3, 3, dtype=torch.uint8)) is None


SCRIPT = """
import json, sys, torch
from pytest_ptq.engine import kernels
from pytest_ptq.engine.inspect import saturation
sys.path.insert(0, "tests")
from engine.test_saturation_lint import CASES, convolution, integers, pair_sums

torch.set_num_threads(1)
found = {}
for name, (channels, outputs, kernel, *geometry) in CASES.items():
    groups = geometry[-1]
    weight = integers(0, 0.5, outputs, channels // groups, kernel, kernel, low=-127, high=127).to(torch.int8)
    x = integers(1, 0.5, 2, channels, 9, 9, low=0, high=255).to(torch.uint8)
    layer = convolution(weight, *geometry)
    sums = pair_sums(x, weight, *geometry)
    said = layer(x.contiguous(memory_format=torch.channels_last)).flatten(2).double()
    exact, saturated = sums.sum(2), sums.clamp(-32768, 32767).sum(2)
    found[name] = [bool((said == saturated).all()), bool((said == exact).all()), saturation(layer, x).overflowing]
print(json.dumps(found))
"""
CASES = {
    "pointwise": (16, 32, 1, 1, 0, 1, 1),
    "window": (16, 32, 3, 1, 1, 1, 1),
    "odd channels": (17, 19, 3, 1, 1, 1, 1),
    "colours": (3, 16, 3, 2, 1, 1, 1),
    "dilated": (16, 16, 3, 1, 2, 2, 1),
    "grouped": (64, 64, 3, 1, 1, 1, 4),
    "depthwise": (32, 32, 3, 1, 1, 1, 32),
}


@pytest.mark.skipif("avx2" not in CPUINFO.read_text(encoding="utf-8"), reason="needs a CPU with AVX2")
def test_onednn_pairs_products_as_the_lint_does() -> None:
    """Kept to AVX2, its sums are those of saturated pairs, bit for bit; with other pairs they would not be."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, (saturated, exact, overflowing) in found.items():
        assert saturated, name
        assert exact is (name == "depthwise"), name
        assert (overflowing > 0) is not exact, name
