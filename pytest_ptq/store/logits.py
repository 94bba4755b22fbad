"""Logits in files that are believed only as long as they are whole, and carry the name that is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "pytest-ptq fp32 logits"
LARGEST = 256 << 20
"""Bytes of logits in a file: 50,000 images of 1,000 classes are 200 million."""
TOTAL = 1 << 30
"""Bytes in all files; the latest used ones stay."""
LEFTOVER_S = 3600.0
"""After how long a file that is only half written is nobody's any more."""


def write_logits(folder: Path, key: str, logits: Tensor) -> None:
    """Keep logits, float32 (N, classes), under `key`; at once or not at all.

    A folder that cannot be written to is no fault of the run's, and what is very large is not kept.
    """
    from safetensors.torch import save

    if logits.nbytes > LARGEST:
        return
    content = save({"logits": logits.contiguous()}, metadata={FORMAT: json.dumps([key, _checksum(logits)])})
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(folder / f"{key}.safetensors")
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return
    _prune(folder)


def read_logits(folder: Path, key: str, images: int) -> Tensor | None:
    """What was kept under `key`, for so many images; None for a file that is missing or not to be believed."""
    import torch
    from safetensors import safe_open

    path = folder / f"{key}.safetensors"
    try:
        with safe_open(str(path), framework="pt") as file:
            named, checksum = json.loads(file.metadata()[FORMAT])
            logits: Tensor = file.get_tensor("logits")
        whole = named == key and checksum == _checksum(logits)
        if not whole or logits.dtype != torch.float32 or logits.ndim != 2 or len(logits) != images:
            return None
        if not logits.isfinite().all():
            return None
    # Whatever a damaged file makes safetensors, json or this code stumble over: it is as good as none.
    except Exception:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return logits


def _checksum(logits: Tensor) -> str:
    return hashlib.sha256(f"{tuple(logits.shape)};".encode() + logits.contiguous().numpy().tobytes()).hexdigest()


def _prune(folder: Path) -> None:
    """Remove what was not used for longest, and what dead writers left behind."""
    with contextlib.suppress(OSError):
        kept = 0
        for path in sorted(folder.glob("*.safetensors"), key=lambda p: p.stat().st_mtime, reverse=True):
            kept += path.stat().st_size
            if kept > TOTAL:
                path.unlink(missing_ok=True)
        for path in folder.glob(".*.tmp"):
            if path.stat().st_mtime < time.time() - LEFTOVER_S:
                path.unlink(missing_ok=True)
