"""Hashes of images: found where they were first met, by all of their bytes, in few bytes of memory."""

from __future__ import annotations

import hashlib
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.sources import Batches
from pytest_ptq.sources.seen_images import SIZE, SeenImages, digests_of, each

HASHES = st.integers(0, 20).map(lambda n: bytes([n % 3]) * 8 + bytes([n]) * (SIZE - 8))
"""Few, and most of them begin alike."""


@given(st.lists(st.lists(HASHES, max_size=5), max_size=5), st.lists(HASHES, max_size=5))
def test_an_image_is_found_where_it_was_first_met(batches: list[list[bytes]], wanted: list[bytes]) -> None:
    seen, first = SeenImages(), dict[bytes, tuple[int, int]]()
    assert not seen.some_of(b"".join(wanted))
    for number, batch in enumerate(batches):
        seen.add(b"".join(batch))
        for place, digest in enumerate(batch):
            first.setdefault(digest, (number, place))
        assert seen.some_of(b"".join(wanted)) is any(digest in first for digest in wanted), "also between batches"
    assert seen.places() == first


def test_digests_are_those_of_each_images_bytes() -> None:
    x = torch.rand(3, 2, 5, 4).contiguous(memory_format=torch.channels_last)
    assert list(each(digests_of(x))) == [hashlib.sha256(row.numpy().tobytes()).digest() for row in x]
    assert len(digests_of(torch.tensor(1.0))) == SIZE
    assert digests_of(torch.zeros(0, 3)) == b""


def _python_bytes(found: object, counted: set[int]) -> int:
    """Of an object and all that it refers to, tensors included."""
    if id(found) in counted or isinstance(found, type):
        return 0
    counted.add(id(found))
    if isinstance(found, torch.Tensor):
        return found.untyped_storage().nbytes()
    inside: list[object] = list(getattr(found, "__dict__", {}).values())
    if isinstance(found, dict):
        inside += [*found, *found.values()]
    elif isinstance(found, (list, tuple, set)):
        inside += found
    return sys.getsizeof(found) + sum(_python_bytes(part, counted) for part in inside)


def test_an_image_that_went_by_costs_few_bytes() -> None:
    def data(count: int) -> int:
        def batches(first: int, last: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
            numbers = torch.arange(first, last).float().view(-1, 1, 1, 1)
            return list(zip(numbers.split(50), (numbers.flatten().long() % 10).split(50), strict=True))

        loaded = Batches(lambda: batches(0, 50), lambda: batches(100, 100 + count)).load()
        for part in (loaded.calibration, loaded.evaluation):
            assert all(len(item) for item in part())
        return _python_bytes(vars(loaded)["_evaluation"].seen, set()) + _python_bytes(
            vars(loaded)["_evaluation"].labels, set()
        )

    assert (data(5_050) - data(50)) / 5_000 < 60, "32 of hash, 8 of its label, and a share of its batch"
