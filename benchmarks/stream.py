"""`python -m benchmarks.stream N`: quantize and judge a tiny model on N images that exist one batch at a time.

Prints the largest memory of its process, MiB, before the first image and at the end, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.memory import peak_mb
from pytest_ptq.runner import SuiteRun
from pytest_ptq.sources import Batches
from pytest_ptq.suite import Suite, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 50
SIZE = 16
CALIBRATION = 500


class Tiny:
    """A model source: two convolutions and a classifier."""

    def build(self, weights: Path | None = None) -> nn.Module:
        import torch
        from torch import nn

        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10)).eval()


def images(count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of random images with labels, the same every time."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for _ in range(0, count, BATCH):
        yield torch.randn(BATCH, 3, SIZE, SIZE, generator=generator), torch.randint(10, (BATCH,), generator=generator)


def main(count: int) -> None:
    data = Batches(lambda: images(CALIBRATION, 1), lambda: images(count, 2))
    suite = Suite(name="stream", description="", variants={"own": Variant(model=Tiny(), data=data)}, qconfigs=("x86",))
    run = SuiteRun(suite)
    (qconfig,) = run.qconfigs
    run.quantized(qconfig)
    before = peak_mb()
    run.measure("accuracy", qconfig)
    print(json.dumps({"images": count, "before_mb": before, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
