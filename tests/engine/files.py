"""Stored models, changed on purpose, for the engine's tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from pytest_ptq.engine import artifact


def rewrite(path: Path, change: Callable[[dict[str, Any]], object], digest: bool = True) -> None:
    """Change the stored graph as somebody with bad intent would: checksum and all."""
    with safetensors.safe_open(path, framework="pt") as file:
        content = json.loads(file.metadata()[artifact.FORMAT])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(content["graph"])
    if digest:
        content["sha256"] = artifact._digest(content["graph"], tensors)
    safetensors.torch.save_file(tensors, path, {artifact.FORMAT: json.dumps(content)})


def find(graph: dict[str, Any], op: str) -> dict[str, Any]:
    found: dict[str, Any] = next(node for node in graph["nodes"] if node["op"] == op)
    return found
