"""A model that is quantized in no time, as a case of the accuracy table, and rivals that fail in every way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fake_rivals
import pytest

from benchmarks import accuracy
from benchmarks.accuracy_cases import Case
from pytest_ptq.qconfig import PRESETS

HERE = Path(__file__).parent
SUITE = """
import torch
from torch import nn

from pytest_ptq import Batches, Suite, Variant
from pytest_ptq.sources.weights import load_into, read_state_dict

def images(count, seed):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))

class Tiny:
    def build(self, weights=None):
        # Without the weights that it is given, it is another model each time.
        layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
        model = nn.Sequential(*layers).eval()
        if weights is not None:
            load_into(model, read_state_dict(weights), str(weights))
        return model

data = Batches([images(8, 0)], [(images(10, seed), torch.arange(10) % 4) for seed in (1, 2)])
suite = Suite(name="tiny", description="tiny", variants={"own": Variant(model=Tiny(), data=data)})
"""


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    """The fakes instead of the rivals, found by processes of their own too, and one preset."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "RIVALS", fake_rivals.RIVALS)
        patch.setattr(accuracy, "PRESETS", {"x86": PRESETS["x86"]})
        patch.setenv("PYTHONPATH", str(HERE))
        patch.delenv("PTQ_RIVALS_PYTHON", raising=False)
        yield patch


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    path = tmp_path_factory.mktemp("suite") / "tiny.py"
    path.write_text(SUITE, encoding="utf-8")
    return Case("tiny", path, "own")
