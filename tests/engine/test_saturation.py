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


def measured(**environment: str) -> dict[str, float]:
    held_back = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "FBGEMM_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")
    usual = {k: v for k, v in os.environ.items() if k not in held_back}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**usual, **environment}, capture_output=True, text=True, check=False
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
