"""CPUs without VNNI: instructions are held back from a fresh process, before torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, torch
from dataclasses import replace
from pytest_ptq import engine
from pytest_ptq.engine import kernels
from pytest_ptq.measure.machine import describe_machine
from pytest_ptq.qconfig import X86

torch.set_num_threads(1)
dense = torch.nn.Linear(64, 16, bias=False).eval()
torch.nn.init.ones_(dense.weight)
conv = torch.nn.Conv2d(64, 16, 1, bias=False).eval()
torch.nn.init.ones_(conv.weight)
found = {"saturates": kernels.saturates_int16(), "vnni": describe_machine().vnni}
for name, model, x in (("linear", dense, torch.ones(1, 64)), ("conv", conv, torch.ones(1, 64, 8, 8))):
    for told in (None, True, False):
        quantized = engine.quantize(model, [x], replace(X86, reduce_range=told))
        found[f"{name} {told}"] = float(quantized(x).mean())
        found[f"plan {told}"] = quantized.plan.reduce_range
print(json.dumps(found))
"""


def measured(script: str = SCRIPT, **environment: str) -> dict[str, float]:
    held_back = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "FBGEMM_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")
    usual = {k: v for k, v in os.environ.items() if k not in held_back}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**usual, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def assert_right(found: dict[str, float]) -> None:
    """A sum of 64 ones, by whatever qconfig follows the CPU or reduces the range."""
    for name in ("linear", "conv"):
        assert found[f"{name} None"] == pytest.approx(64, rel=0.02)
        assert found[f"{name} True"] == pytest.approx(64, rel=0.02)


def test_without_vnni_sums_saturate_and_reduce_range_avoids_it() -> None:
    found = measured(ONEDNN_MAX_CPU_ISA="AVX2", FBGEMM_ENABLE_INSTRUCTIONS="AVX2")
    assert found["saturates"] is True
    assert (found["plan None"], found["plan True"], found["plan False"]) == (True, True, False)
    assert_right(found)
    assert found["linear False"] < 40, "two products of 255 and 127 do not fit into int16"


def test_as_the_cpu_is() -> None:
    found = measured()
    assert found["saturates"] is not found["vnni"]
    assert found["plan None"] is found["saturates"]
    assert_right(found)
    if not found["saturates"]:
        assert found["linear False"] == pytest.approx(64, rel=0.02)
        assert found["conv False"] == pytest.approx(64, rel=0.02)


EXACT = """
import json, sys, torch
from pytest_ptq.engine import affine
from pytest_ptq.engine.affine import PAIRED, UINT8, QParams
from pytest_ptq.engine.modules import QuantizedConv2d, QuantizedLinear
sys.path.insert(0, "tests")
from engine.test_saturation import SHAPES

torch.set_num_threads(1)
found = {}
generator = torch.Generator().manual_seed(0)
for zero_point, bounds in ((0, PAIRED), (90, PAIRED), (0, UINT8), (128, UINT8)):
    read = QParams(1.0, zero_point, *bounds)
    for (channels, outputs, kernel, groups, size) in SHAPES:
        # Large weights side by side, one sign a channel, and an image as bright as can be.
        weight = torch.rand(outputs, channels // groups, kernel, kernel, generator=generator).sqrt()
        weight *= torch.randint(0, 2, (outputs, 1, 1, 1), generator=generator) * 2 - 1
        whole = affine.quantize_weight(weight, affine.weight_scales(weight, True, bounds[1]))
        x = torch.full((2, channels, size, size), bounds[1], dtype=torch.uint8)
        geometry = ((1, 1), (kernel // 2,) * 2, (1, 1), groups)
        layer = QuantizedConv2d(whole, torch.ones(outputs), None, "none", read, None, *geometry)
        exact = affine.conv2d_sums(x, zero_point, whole, *geometry)
        right = torch.equal(layer(x.contiguous(memory_format=torch.channels_last)).long(), exact)
        found[f"{channels}, {outputs}, {kernel}, {groups}, {size}, {zero_point}, {bounds}"] = right
    for count in (1, 2, 3, 64, 129):
        weight = torch.rand(33, count, generator=generator).sqrt()
        whole = affine.quantize_weight(weight, affine.weight_scales(weight, True, bounds[1]))
        x = torch.full((5, count), bounds[1], dtype=torch.uint8)
        layer = QuantizedLinear(whole, torch.ones(33), None, "none", read, None)
        right = torch.equal(layer(x).long(), affine.linear_sums(x, zero_point, whole))
        found[f"linear {count}, {zero_point}, {bounds}"] = right
print(json.dumps(found))
"""
SHAPES = (
    (3, 16, 3, 1, 17), (4, 8, 1, 1, 7), (16, 32, 1, 1, 9), (17, 19, 3, 1, 9), (64, 64, 3, 4, 9), (32, 32, 3, 32, 9),
    (130, 24, 1, 1, 1), (8, 8, 5, 4, 12), (2, 6, 3, 1, 30), (96, 96, 3, 1, 4),
)  # fmt: skip
"""Input and output channels, window, groups, size of the image."""


@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE"])
def test_what_reduce_range_makes_is_exact_where_pairs_saturate(isa: str) -> None:
    """The neighbours that it keeps apart are those that kernels add, whichever kernel takes a shape."""
    found = measured(EXACT, ONEDNN_MAX_CPU_ISA=isa, FBGEMM_ENABLE_INSTRUCTIONS="AVX2")
    assert len(found) == 4 * (len(SHAPES) + 5)
    assert not [shape for shape, right in found.items() if not right]
