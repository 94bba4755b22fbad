"""What a model answers, copied into blocks: in order, of the same values, and none of the batches' tensors is kept."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pytest_ptq.measure import rows
from pytest_ptq.measure.accuracy import collect_logits
from pytest_ptq.measure.rows import Rows


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(1, 7), st.sampled_from(["2d", "1d"]))
def test_rows_come_back_in_order(sizes: list[int], block: int, form: str) -> None:
    whole = torch.arange(3.0 * sum(sizes)).view(-1, 3) if form == "2d" else torch.arange(sum(sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK", block)
        kept = Rows()
        for part in whole.split(sizes):
            kept.add(part)
        assert len(kept) == len(whole)
        if len(whole):
            found = kept.take()
            assert torch.equal(found, whole)
            assert found.dtype is whole.dtype
            assert found.untyped_storage().nbytes() == whole.nbytes, "and nothing beside them"


def test_no_rows_are_no_tensor() -> None:
    with pytest.raises(IndexError):
        Rows().take()


class _Watched(nn.Module):
    """Answers with new tensors and knows how many of them live."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.most = 0

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        self.alive.add(y)
        self.most = max(self.most, len(self.alive))
        return y


def test_answers_of_a_batch_do_not_outlive_it() -> None:
    model = _Watched()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(100):
            yield torch.full((2, 10), float(number)), torch.tensor([0, number % 10])

    logits, labels = collect_logits(model, batches())
    assert model.most <= 2, "those of this batch and of the last"
    assert not model.alive
    assert logits[:, 0].tolist() == [1.0 + n for n in range(100) for _ in range(2)]
    assert labels[1::2].tolist() == [n % 10 for n in range(100)]
    assert not logits.is_inference(), "metrics of a user's own may take gradients"
