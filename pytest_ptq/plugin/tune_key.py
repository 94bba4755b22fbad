"""What the findings of `--ptq-tune` hold for: they are believed only where all that they follow from is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from pytest_ptq import __version__

if TYPE_CHECKING:
    from pytest_ptq.plugin.selection import Selection
    from pytest_ptq.qconfig import QConfig
    from pytest_ptq.runner import SuiteRun
    from pytest_ptq.suite import Dataset


def tune_key(selection: Selection, run: SuiteRun, qconfig: QConfig, machine_key: str) -> str:
    """Hash of model, data, qconfig, suite, machine, torch, and the engine's own source, in sixteen digits."""
    suite = selection.suite
    asked = (suite.name, selection.kind, selection.argument, suite.metrics, suite.top1, qconfig, machine_key)
    digest = hashlib.sha256(repr((asked, __version__)).encode())
    for part in (_model(run), _data(run.dataset)):
        for content in part:
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def _model(run: SuiteRun) -> Iterator[bytes]:
    """The float model, and what computes it."""
    from pytest_ptq.fp32_results import computed_by, computing

    written = computed_by(run.fused)
    if written is not None:
        yield written.encode()
        return
    # A layer that only its own class can write down: how it describes itself has to do.
    yield computing()
    yield f"{run.fused!r} {run.fused.code}".encode()
    yield from _bytes(run.fused.state_dict())


def _data(dataset: Dataset) -> Iterator[bytes]:
    """Inputs as the model gets to see them, and what they are judged by.

    Files tell their content and labels without being decoded, and the first batches show how all are prepared.
    Anything else is read whole, which takes less than one evaluation does.
    """
    prints, labels = (getattr(dataset, name, None) for name in ("fingerprints", "evaluation_labels"))
    cheap = prints is not None and labels is not None
    if prints is not None and labels is not None:
        yield from (repr(list(part)).encode() for part in (*prints(), labels()))
    for batches in (dataset.calibration(), dataset.evaluation()):
        for batch in islice(batches, 1 if cheap else None):
            yield from _bytes(batch)


def _bytes(value: Any) -> Iterator[bytes]:
    """Content of tensors, however they are nested; of anything else, how it is written."""
    import torch

    if isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, Mapping):
        yield from _bytes(list(value.items()))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        items = list(value)
        yield f"{type(value).__name__} of {len(items)}".encode()
        for item in items:
            yield from _bytes(item)
    else:
        yield repr(value).encode()
