"""The float model's logits on the evaluation images, kept between runs by the content of all they follow from.

That is the model with its weights, the images in their batches, and what computes: torch, the CPU, the number of
threads, and the engine's own source. Only where all of it is the same, byte for byte, is a file believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import StoreError
from pytest_ptq.measure.content import Content
from pytest_ptq.measure.machine import describe_machine
from pytest_ptq.store.logits import read_logits, write_logits

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_ptq.engine.fuse import FusedModule

ENGINE = Path(__file__).resolve().parent / "engine"


class Fp32Results:
    """Logits of one float model: found in a folder, by what went by, or put there.

    Args:
        folder: where files are; None keeps nothing and hashes nothing.
        fused: the model.
    """

    def __init__(self, folder: Path | None, fused: FusedModule) -> None:
        computes = computed_by(fused) if folder is not None else None
        self._folder, self._computes = (folder, computes) if computes is not None else (None, "")
        self._content = Content()

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The evaluation batches, on their way to another model: reading them once more would cost as much again."""
        yield from batches if self._folder is None else self._content.watch(batches)

    def find(self, images: int) -> Tensor | None:
        """Logits (images, classes) of the images that went by, if they are known."""
        return None if self._folder is None else read_logits(self._folder, self._key(), images)

    def keep(self, logits: Tensor) -> None:
        """Logits of the images that went by."""
        if self._folder is not None:
            write_logits(self._folder, self._key(), logits)

    def _key(self) -> str:
        return hashlib.sha256(f"{self._computes} {self._content.hexdigest()}".encode()).hexdigest()


def computed_by(fused: FusedModule) -> str | None:
    """Hash of a float model and of all that computes it; None for a model that cannot be written down."""
    from pytest_ptq.engine.artifact import to_parts

    digest = hashlib.sha256()
    try:
        for part in to_parts(fused):
            digest.update(part)
    except StoreError:  # a layer that only its own class can write down: then there is no telling two models apart
        return None
    digest.update(computing())
    return digest.hexdigest()


def computing() -> bytes:
    """Hash of all that computes a model, whatever the model: machine, torch, settings, and the engine's source."""
    import torch

    from pytest_ptq.engine import kernels

    machine = describe_machine(torch.get_num_threads())
    digest = hashlib.sha256()
    digest.update(
        json.dumps(
            [
                [machine.cpu, machine.isa, machine.cores, machine.threads, machine.os, machine.python],
                [torch.__version__, torch.version.git_version, torch.backends.cpu.get_cpu_capability()],
                [torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled],
                kernels.settings(),
            ]
        ).encode()
    )
    for path in sorted(ENGINE.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.digest()
