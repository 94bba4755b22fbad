"""Statistics kept between runs, by the content of all they follow from: model, data, collector, torch and CPU.

A file is believed only when everything it was made from is the same, byte for byte, and its checksum holds; any other
is as good as none, and is replaced. Nothing here can make a run fail: at worst it calibrates.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pytest_ptq.engine import artifact, kernels
from pytest_ptq.engine.calibrate import Calibration, Progress, check_batch
from pytest_ptq.engine.observe import PreparedModule
from pytest_ptq.engine.observers import BINS, Statistics
from pytest_ptq.errors import StoreError

COLLECTOR = 3
"""To be raised whenever the same data would give other statistics, or a file another meaning."""
FORMAT = "pytest-ptq calibration"
KEPT = 32
"""How many files stay, the latest used ones; one takes about 16 KB a tensor."""
LEFTOVER_S = 3600.0
"""After how long a file that is only half written is nobody's any more."""


def calibrated(
    folder: Path | None,
    prepared: PreparedModule,
    batches: Callable[[], Iterable[Any]],
    progress: Progress,
    calibrate: Callable[..., Calibration],
) -> Calibration:
    """Statistics of `prepared` on `batches()`: from a file in `folder`, or collected and then kept there.

    The data are read once, also when nothing is found; twice only where a file of this very model holds the statistics
    of other data. Without a folder nothing is kept. Raises what `calibrate` raises.
    """
    model = _model_key(prepared) if folder is not None else None
    if folder is None or model is None:
        return calibrate(prepared, batches(), progress)
    if any(folder.glob(f"{model}-*.safetensors")):
        found = read(folder / f"{model}-{_read_data(batches(), progress)}.safetensors", tuple(prepared.observers()))
        if found is not None:
            return found
    seen = _DataKey()
    found = calibrate(prepared, batches(), seen.watch(progress))
    write(folder / f"{model}-{seen.hexdigest()}.safetensors", found)
    return found


def _model_key(prepared: PreparedModule) -> str | None:
    """Hash of the float graph with its weights, of what is observed and how, and of what computes it."""
    digest = hashlib.sha256()
    try:
        for part in artifact.to_parts(prepared.fused):
            digest.update(part)
    except StoreError:  # a layer that only its own class can write down: then there is no telling two models apart
        return None
    observers = [(name, type(observer).__name__) for name, observer in prepared.observers().items()]
    # Whatever chooses kernels: those of another CPU, or held to older instructions, sum in another order.
    cpu = [torch.backends.cpu.get_cpu_capability(), dict(torch.cpu.get_capabilities()), kernels.settings()]
    computes = [COLLECTOR, torch.__version__, *cpu]
    digest.update(json.dumps([computes, observers], sort_keys=True).encode())
    return digest.hexdigest()


class _DataKey:
    """Hash of all that batches hold, in their order, as the model gets to see it."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, x: Tensor) -> None:
        self._hash.update(f"{x.dtype} {tuple(x.shape)};".encode())
        self._hash.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def watch(self, progress: Progress) -> Progress:
        """The same progress, that takes each batch in as it goes by."""

        def watched(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
            for number, batch in enumerate(progress(items, title, total)):
                self.add(check_batch(batch, number))
                yield batch

        return watched

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _read_data(batches: Iterable[Any], progress: Progress) -> str:
    key = _DataKey()
    total = len(batches) if isinstance(batches, Sized) else None
    for _ in key.watch(progress)(batches, "reading calibration data", total):
        pass
    return key.hexdigest()


def write(path: Path, calibration: Calibration) -> None:
    """Keep a calibration; at once or not at all. A folder that cannot be written to is no fault of the run's."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(to_bytes(path.stem, calibration))
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return
    _prune(path.parent)


def to_bytes(key: str, calibration: Calibration) -> bytes:
    """A safetensors file: the counts as whole numbers, everything else as JSON in its header."""
    seen = calibration.statistics.values()
    histograms = [s.counts for s in seen if s.counts is not None]
    counts = torch.stack(histograms).long() if histograms else torch.zeros(0, BINS, dtype=torch.int64)
    rows = [
        [name, s.low, s.high, s.values, s.limit, s.average_low, s.average_high, s.step, s.counts is not None]
        for name, s in calibration.statistics.items()
    ]
    content = {"key": key, "images": calibration.images, "rows": rows}
    header = json.dumps({"content": content, "sha256": _checksum(content, counts)}, allow_nan=False)
    return safetensors.torch.save({"counts": counts}, metadata={FORMAT: header})


def read(path: Path, names: Sequence[str]) -> Calibration | None:
    """The calibration that `write` kept, of exactly these tensors; None for a file that is missing or not trusted."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = json.loads(file.metadata()[FORMAT])
            counts = file.get_tensor("counts")
        content = header["content"]
        if header["sha256"] != _checksum(content, counts) or content["key"] != path.stem:
            return None
        histograms = iter(counts.double())
        statistics = {row[0]: _statistics(row, histograms) for row in content["rows"]}
        images = content["images"]
    # Whatever a damaged file makes safetensors, json or this code stumble over: it is as good as none.
    except Exception:
        return None
    if tuple(statistics) != tuple(names):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return Calibration(statistics, images)


def _statistics(row: list[Any], histograms: Iterator[Tensor]) -> Statistics:
    _, low, high, values, limit, average_low, average_high, step, counted = row
    if not (-math.inf < low <= high < math.inf) or values < 1:
        raise StoreError("a range that cannot be")
    if step is not None and not 0 < step < math.inf:
        raise StoreError("steps that cannot be")
    return Statistics(low, high, values, limit, next(histograms) if counted else None, average_low, average_high, step)


def _checksum(content: object, counts: Tensor) -> str:
    return hashlib.sha256(json.dumps(content).encode() + counts.numpy().tobytes()).hexdigest()


def _prune(folder: Path) -> None:
    """Remove what was not used for longest, and what dead writers left behind."""
    with contextlib.suppress(OSError):
        files = sorted(folder.glob("*.safetensors"), key=lambda p: p.stat().st_mtime, reverse=True)
        old = [p for p in folder.glob(".*.tmp") if p.stat().st_mtime < time.time() - LEFTOVER_S]
        for path in (*files[KEPT:], *old):
            path.unlink(missing_ok=True)
