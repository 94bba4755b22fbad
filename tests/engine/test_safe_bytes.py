"""The file is the one that safetensors writes, to the byte: sizes are gated, and other programs read it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pytest_ptq import fp32_results
from pytest_ptq.engine import artifact, calibration_cache, fuse, pipeline
from pytest_ptq.engine.safe_bytes import can_hold, safe_size, to_safe_bytes
from pytest_ptq.errors import StoreError
from pytest_ptq.timing import _stored

DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.float16, torch.bfloat16, torch.int32, torch.float32,
    torch.float64, torch.int64,
)  # fmt: skip
NAMES = st.text(st.characters(blacklist_categories=("Cs",)), max_size=8).filter(lambda name: name != "__metadata__")
TENSORS = st.builds(
    lambda shape, dtype: torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype),
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from(DTYPES),
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(NAMES, TENSORS, max_size=8), st.none() | st.dictionaries(NAMES, st.text(), min_size=1, max_size=1)
)
def test_the_same_bytes(tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> None:
    if metadata is not None:
        metadata = {key: value.encode("utf-8", "replace").decode() for key, value in metadata.items()}
    expected = safetensors.torch.save(tensors, metadata)
    assert to_safe_bytes(tensors, metadata) == expected
    if metadata is None:
        assert safe_size(tensors) == len(expected)


def test_tensors_in_any_layout() -> None:
    x = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    tensors = {"x": x, "t": torch.rand(3, 7).t(), "one": torch.tensor(3), "none": torch.rand(0, 4)}
    content = to_safe_bytes(tensors)
    assert len(content) == safe_size(tensors)
    read = safetensors.torch.load(content)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_types_that_are_not_known() -> None:
    assert can_hold({"a": torch.ones(1)})
    assert not can_hold({"a": torch.ones(1), "b": torch.ones(1, dtype=torch.complex64)})


def test_a_size_copies_nothing() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
    copied: list[int] = []

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found = func(*args, **(kwargs or {}))
            if func in (torch.ops.aten.clone.default, torch.ops.aten._to_copy.default):
                copied.append(found.nbytes)
            return found

    with Counter():
        artifact.serialized_bytes(model)
    assert copied == []
    model.register_buffer("waves", torch.ones(3, dtype=torch.complex64))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert artifact.serialized_bytes(model) == len(safetensors.torch.save(state)), "also of other types"


def test_tied_weights_count_as_often_as_they_are_named() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    alone = artifact.serialized_bytes(model)
    model[1].weight = model[0].weight
    assert artifact.serialized_bytes(model) == alone


def _traced(work: Callable[[], object]) -> int:
    """Bytes at most that Python's own objects took meanwhile; tensors are none of them."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_weights_are_written_and_hashed_where_they_lie(tmp_path: Path) -> None:
    fused = fuse(nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)).eval())
    weights = 4 << 20
    assert _traced(lambda: artifact.to_bytes(fused)) > weights, "what it takes to hold the content"
    prepared = pipeline.prepare(fused)
    for work in (
        lambda: artifact.save(fused, tmp_path / "fused.safetensors"),
        lambda: fp32_results.computed_by(fused),
        lambda: calibration_cache._model_key(prepared),
        lambda: _stored(fused),
    ):
        assert _traced(work) < weights / 4
    assert (tmp_path / "fused.safetensors").read_bytes() == artifact.to_bytes(fused)


def test_a_model_that_cannot_be_stored_is_refused_before_a_part_is_read() -> None:
    with pytest.raises(StoreError, match="save was given a Linear"):
        artifact.to_parts(nn.Linear(2, 2))  # type: ignore[arg-type]
