"""The engine on real weights and real photographs: torchvision's MobileNetV2 with ImageNet weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_ptq.metrics import ACCURACY_DROP, SQNR
from pytest_ptq.qconfig import get_qconfig
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import load_suite

KIT = Path(os.environ.get("PTQ_IMAGENET_KIT", "../shared/data/imagenet-kit"))
SUITE = Path(__file__).parent / "suites" / "mobilenet_v2_kit.py"

pytestmark = pytest.mark.skipif(
    not (KIT / "val_map.txt").exists(), reason="no photographs: set PTQ_IMAGENET_KIT to a folder that holds them"
)


@pytest.fixture(scope="module")
def run() -> SuiteRun:
    suite = load_suite(str(SUITE), [])
    return SuiteRun(suite, "imagenet", str(KIT), KIT / "weights" / "mobilenet_v2_coral.pth")


def test_x86_loses_at_most_a_point_at_18_db(run: SuiteRun) -> None:
    found = run.measure("accuracy", get_qconfig("x86"))
    assert found[ACCURACY_DROP.key].samples == 600
    assert found[ACCURACY_DROP.key].value <= 1.0
    assert found[SQNR.key].value >= 18.0


def test_minmax_collapses(run: SuiteRun) -> None:
    """One scale for a whole weight whose channels differ by orders of magnitude: what PyTorch's tutorial warns of."""
    found = run.measure("accuracy", get_qconfig("minmax"))
    assert found[ACCURACY_DROP.key].value > 10.0


def test_the_whole_model_runs_in_int8(run: SuiteRun) -> None:
    assert run.fp32_layers(get_qconfig("x86")) == ()
