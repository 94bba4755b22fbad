"""The models of the accuracy table with their images, in memory and as a job for the rivals."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rivals.job import Job, write_job
from pytest_ptq.measure.accuracy import collect_logits
from pytest_ptq.runner import SuiteRun
from pytest_ptq.suite import load_suite, packaged_suites

if TYPE_CHECKING:
    from torch import Tensor

KIT_VARIABLE = "PTQ_IMAGENET_KIT"
TESTS = Path(__file__).resolve().parent.parent / "tests" / "suites"
KIT_WEIGHTS = Path("weights") / "mobilenet_v2_coral.pth"
IMAGES = 2560
"""How many evaluation images are looked at: all of the photographs, a quarter of Fashion-MNIST's."""
BATCH = 32
"""Images a call for the rivals."""


@dataclass(frozen=True)
class Case:
    """One model on one kind of data.

    Args:
        name: what the table calls it.
        suite: path of its suite file.
        kind: variant of the suite.
        argument: what stands behind `=` in `--ptq-data`.
        weights: state dict instead of the variant's own.
    """

    name: str
    suite: Path
    kind: str
    argument: str | None = None
    weights: Path | None = None


def cases() -> tuple[Case, ...]:
    """The embedded suites and the kit's two models; these also where there is no kit, so that their rows say so."""
    folder, kit = packaged_suites(), os.environ.get(KIT_VARIABLE) or None
    embedded = ("resnet50", "mobilenet_v2", "mobilenet_v3_small")
    return (
        *(Case(name, folder / f"{name}.py", "embedded") for name in embedded),
        Case(
            "mobilenet_v2_kit", TESTS / "mobilenet_v2_kit.py", "imagenet", kit,
            Path(kit) / KIT_WEIGHTS if kit else None,
        ),
        Case("efficientnet_lite0_kit", TESTS / "efficientnet_lite0_kit.py", "imagenet", kit),
    )  # fmt: skip


class Loaded:
    """A case whose model and images are in memory. Every engine sees the same.

    Raises PTQError: the model's weights or the images cannot be had.
    """

    def __init__(self, case: Case) -> None:
        import torch

        self.case = case
        self.run = SuiteRun(load_suite(case.suite, []), case.kind, case.argument, case.weights)
        self.model = self.run.model
        self.batches = list(first(self.run.dataset.evaluation(), IMAGES))
        self.images = torch.cat([images for images, _ in self.batches])
        self.calibration = torch.cat(list(self.run.dataset.calibration()))

    @cached_property
    def logits(self) -> tuple[Tensor, Tensor]:
        """Those of fp32 (images, classes), and the labels (images,)."""
        return collect_logits(self.run.fp32, self.batches)

    @cached_property
    def digest(self) -> str:
        """Hash of weights, calibration images, evaluation images and labels."""
        state = self.model.state_dict()
        labels = [labels for _, labels in self.batches]
        tensors = (*(state[name] for name in sorted(state)), self.calibration, self.images, *labels)
        found = hashlib.blake2b(digest_size=16)
        for tensor in tensors:
            found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(memoryview(tensor.detach().contiguous().numpy().reshape(-1)).cast("B"))
        return found.hexdigest()

    def write(self, folder: Path, threads: int) -> None:
        """Write what the rivals' processes read."""
        job = Job(str(self.case.suite), self.case.kind, threads, BATCH)
        write_job(folder, job, self.model, self.calibration, self.images)


def first(batches: Iterable[tuple[Tensor, Tensor]], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches until there are `count` images; the last one is cut."""
    for images, labels in batches:
        yield images[:count], labels[:count]
        count -= len(labels)
        if count <= 0:
            return
