"""`python -m benchmarks.rivals FOLDER MODULE KEY`: quantize and run one model by one engine."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rivals.job import CALIBRATION, EVALUATION, WEIGHTS, Job, error_file, logits_file, read_job
from benchmarks.rivals.rival import Rival, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


def main(folder: Path, module: str, key: str) -> int:
    """Write the logits, or one line that says why there are none; the trace goes to stderr."""
    try:
        (rival,) = [r for r in importlib.import_module(module).RIVALS if r.key == key]
        _run(folder, rival, read_job(folder))
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        error_file(folder, key).write_text(f"{type(error).__name__}: {first}", encoding="utf-8")
        raise
    return 0


def _run(folder: Path, rival: Rival, job: Job) -> None:
    import numpy as np
    import torch

    torch.set_num_threads(job.threads)
    calibration = _batches(folder / CALIBRATION, job.batch)
    predict = rival.quantize(_model(folder, job), calibration, Settings(job.threads, job.compiled))
    with torch.no_grad():
        logits = [predict(batch).float().numpy() for batch in _batches(folder / EVALUATION, job.batch)]
    np.save(logits_file(folder, rival.key), np.concatenate(logits))


def _model(folder: Path, job: Job) -> nn.Module:
    from pytest_ptq.sources import build_model
    from pytest_ptq.suite import load_suite

    return build_model(load_suite(job.suite, []).variants[job.kind].model, folder / WEIGHTS)


def _batches(path: Path, size: int) -> list[Tensor]:
    import numpy as np
    import torch

    return list(torch.split(torch.from_numpy(np.load(path)), size))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the engines' own, among them that torch.ao will be removed
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
