"""Tensors as a safetensors file, byte for byte as `safetensors.torch.save` writes it, without its three copies.

The format, from its own description: eight bytes with the header's length, the header as JSON padded with spaces to a
multiple of eight bytes, and the tensors' bytes one after the other, those of wider types first, then by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
"""What the format calls each type, in its own order."""
_ORDER = {dtype: place for place, dtype in enumerate(_TYPES)}


def can_hold(tensors: Mapping[str, Tensor]) -> bool:
    """Whether all tensors are of types that are known here."""
    return all(t.dtype in _TYPES and t.layout is torch.strided for t in tensors.values())


def to_safe_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file's content; the tensors are copied once, into it."""
    return b"".join(safe_parts(tensors, metadata))


def safe_size(tensors: Mapping[str, Tensor]) -> int:
    """The file's length in bytes; nothing is copied."""
    return len(_header(tensors, None)) + sum(t.nbytes for t in tensors.values())


def safe_parts(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """The file's content, part by part: a tensor that lies in order is not copied at all."""
    yield _header(tensors, metadata)
    for name in _sorted(tensors):
        if tensors[name].numel():
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            yield flat.view(torch.uint8).numpy().data


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    start = 0
    for name in _sorted(tensors):
        t = tensors[name]
        entries[name] = {"dtype": _TYPES[t.dtype], "shape": list(t.shape), "data_offsets": [start, start + t.nbytes]}
        start += t.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _sorted(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(tensors, key=lambda name: (-_ORDER[tensors[name].dtype], name.encode()))
