"""The folder in which a benchmark and the process of a rival meet: safe files only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS, CALIBRATION, EVALUATION, JOB = "weights.safetensors", "calibration.npy", "evaluation.npy", "job.json"


@dataclass(frozen=True)
class Job:
    """What is to be quantized and run.

    Args:
        suite: path of the suite file that knows the architecture.
        kind: which of its variants.
        threads: threads of one call.
        batch: images of one call, in calibration and evaluation.
        compiled: see `Settings`.
    """

    suite: str
    kind: str
    threads: int
    batch: int
    compiled: bool = False


def write_job(folder: Path, job: Job, model: nn.Module, calibration: Tensor, evaluation: Tensor) -> None:
    """Write everything that a rival's process reads. Raises OSError."""
    import numpy as np
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    np.save(folder / CALIBRATION, calibration.contiguous().numpy())
    np.save(folder / EVALUATION, evaluation.contiguous().numpy())
    (folder / JOB).write_text(json.dumps(asdict(job)), encoding="utf-8")


def read_job(folder: Path) -> Job:
    fields: Mapping[str, Any] = json.loads((folder / JOB).read_text(encoding="utf-8"))
    return Job(**fields)


def logits_file(folder: Path, key: str) -> Path:
    return folder / f"{key}.npy"


def error_file(folder: Path, key: str) -> Path:
    """What went wrong, one line, where the process could still say it."""
    return folder / f"{key}.error"
