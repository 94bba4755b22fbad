from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sized

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pytest_ptq.errors import DataError, UsageError
from pytest_ptq.sources import Batches, check_disjoint, checked

Pair = tuple[Tensor, Tensor]


def images(first: int, count: int = 4) -> Tensor:
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def pairs(first: int = 100) -> list[Pair]:
    return [(images(first), torch.zeros(4).long()), (images(first + 4), torch.ones(4).long())]


CALIBRATION = [images(0), images(4)]


def test_lists_are_given_again_and_again() -> None:
    data = Batches(CALIBRATION, pairs()).load()
    for _ in range(3):
        assert [x[0, 0, 0, 0].item() for x in data.calibration()] == [0, 4]
        assert [y[0].item() for _, y in data.evaluation()] == [0, 1]


def test_callables_are_called_for_each_pass() -> None:
    data = Batches(lambda: iter(CALIBRATION), lambda: (pair for pair in pairs())).load()
    for _ in range(2):
        assert len(list(data.calibration())) == 2
        assert len(list(data.evaluation())) == 2


def test_data_loaders_work_and_calibration_labels_are_dropped() -> None:
    calibration = DataLoader(TensorDataset(images(0, 6), torch.zeros(6)), batch_size=4)
    evaluation = DataLoader(TensorDataset(images(50, 6), torch.arange(6)), batch_size=4)
    data = Batches(calibration, evaluation).load()
    assert [x.shape for x in data.calibration()] == [(4, 3, 2, 2), (2, 3, 2, 2)]
    assert [y.tolist() for _, y in data.evaluation()] == [[0, 1, 2, 3], [4, 5]]


def test_a_generator_is_refused_before_it_is_spent() -> None:
    spent = (x for x in CALIBRATION)
    with pytest.raises(DataError, match=r"batches, calibration: a generator gives .* only once.*callable.*DataLoader"):
        Batches(spent, pairs()).load()
    assert len(list(spent)) == 2


def test_a_generator_behind_a_callable_is_found_out_on_the_second_pass() -> None:
    spent = iter(pairs())
    data = Batches(CALIBRATION, lambda: spent).load()
    assert len(list(data.evaluation())) == 2
    with pytest.raises(DataError, match=r"gave 2 batches the first time and 0 now.*callable.*DataLoader"):
        list(data.evaluation())


def test_a_glance_at_the_first_batch_does_no_harm() -> None:
    data = Batches(CALIBRATION, pairs()).load()
    next(iter(data.calibration()))
    assert len(list(data.calibration())) == 2
    assert len(list(data.calibration())) == 2


class Endless(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(images(0))


def test_lengths_are_known_where_the_loader_knows_them() -> None:
    assert len(Batches(CALIBRATION, pairs()).load().evaluation()) == 2  # type: ignore[arg-type]
    for loader in (lambda: iter(CALIBRATION), DataLoader(Endless(), batch_size=2)):
        view = Batches(loader, pairs()).load().calibration()
        assert not isinstance(view, Sized)
        assert len(list(view)) == 2


def test_half_precision_images_are_hashed_too() -> None:
    data = Batches([x.bfloat16() for x in CALIBRATION], pairs()).load()
    assert [x.dtype for x in data.calibration()] == [torch.bfloat16] * 2


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(DataError, match="evaluation: the loader gives no batches"):
        list(Batches(CALIBRATION, []).load().evaluation())


def test_a_shuffled_loader_is_refused() -> None:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(images(50, 64), torch.arange(64)), batch_size=32, shuffle=True)
    data = Batches(CALIBRATION, loader).load()
    list(data.evaluation())
    with pytest.raises(DataError, match=r"evaluation batch 0: the loader gives other images.*shuffling"):
        list(data.evaluation())


@pytest.mark.parametrize("order", ["calibration first", "evaluation first"])
def test_an_image_on_both_sides_is_refused(order: str) -> None:
    data = Batches(CALIBRATION, [*pairs(), (images(7, 1), torch.zeros(1).long())]).load()
    passes = [data.calibration(), data.evaluation()]
    first, second = passes if order == "calibration first" else passes[::-1]
    list(first)
    with pytest.raises(DataError, match="1 image stands also in") as caught:
        list(second)
    places = [
        "batches, evaluation batch 2, image 0: .*calibration; the first is image 3 of its batch 1",
        "batches, calibration batch 1, image 3: .*evaluation; the first is image 0 of its batch 2",
    ]
    assert re.search(places[order == "evaluation first"], str(caught.value))


def test_shared_images_are_counted_to_the_end_of_the_loader() -> None:
    shared = [(images(6), torch.zeros(4).long()), *pairs(), (images(0), torch.zeros(4).long())]
    data = Batches(CALIBRATION, shared).load()
    list(data.calibration())
    evaluation = iter(data.evaluation())
    with pytest.raises(DataError, match="6 images stand also in batches, calibration; the first is image 2 of its b"):
        next(evaluation)  # so that no model sees any of them


def test_check_disjoint_reads_both_sides() -> None:
    assert check_disjoint(Batches(CALIBRATION, pairs()).load())
    said = "2 images stand both in calibration and in evaluation; the first is calibration image 7, evaluation image 0"
    with pytest.raises(DataError, match=f"batches: {said}"):
        check_disjoint(Batches(CALIBRATION, [(images(4)[[3, 1, 3]], torch.zeros(3))]).load())


class Own:
    """A data set as a hook may register it, with or without fingerprints."""

    def __init__(self, evaluation: list[Pair], fingerprints: tuple[list[str], list[str]] | None = None) -> None:
        self._evaluation = evaluation
        if fingerprints is not None:
            self.fingerprints = lambda: fingerprints

    def calibration(self) -> list[Tensor]:
        return CALIBRATION

    def evaluation(self) -> list[Pair]:
        return self._evaluation


@pytest.mark.parametrize("fingerprints", [None, ([], []), (["a"], []), ([], ["a"])])
def test_a_data_set_without_fingerprints_has_its_tensors_hashed(fingerprints: tuple[list[str], list[str]]) -> None:
    sound = checked(Own(pairs(), fingerprints))
    assert len(list(sound.calibration())) == len(list(sound.evaluation())) == 2
    shared = checked(Own([*pairs(), (images(0), torch.zeros(4).long())], fingerprints))
    list(shared.calibration())
    with pytest.raises(DataError, match=r"Own, evaluation batch 2, image 0: 4 images stand also in Own, calibration"):
        list(shared.evaluation())


def test_a_data_set_with_fingerprints_is_compared_by_them_and_stays_what_it_is() -> None:
    own = Own(pairs(), (["a", "b"], ["c"]))
    assert checked(own) is own
    with pytest.raises(DataError, match=r"Own: 1 image stands both .* calibration image 1, evaluation image 2"):
        checked(Own(pairs(), (["a", "b"], ["c", "d", "b", "b"])))
    loaded = Batches(CALIBRATION, pairs()).load()
    assert checked(loaded) is loaded


def test_what_is_no_data_set_is_refused() -> None:
    with pytest.raises(DataError, match=r"list: it has no calibration\(\)"):
        checked([])


def test_targets_of_any_kind_go_by_untouched() -> None:
    targets = [{"boxes": images(0)}]
    ((_, found),) = Batches(CALIBRATION, [(images(9), targets)]).load().evaluation()
    assert found is targets


def test_fingerprints_are_hashes_of_each_images_bytes() -> None:
    calibration, evaluation = Batches(CALIBRATION, pairs()).load().fingerprints()
    assert isinstance(calibration, Iterator)
    assert len(list(evaluation)) == 8
    expected = hashlib.sha256(images(0)[0].contiguous().numpy().tobytes()).hexdigest()
    assert next(calibration) == expected


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ([images(9)], "no pair of input and labels"),
        ([(images(9),)], "no pair of input and labels"),
        ([([1, 2], torch.zeros(2))], "the input is a list, not a tensor"),
        (lambda: None, "the callable returns a NoneType"),
    ],
)
def test_batches_of_another_form_are_named(evaluation: object, said: str) -> None:
    data = Batches(CALIBRATION, evaluation).load()  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said):
        list(data.evaluation())


def test_what_is_no_loader_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="a int gives no batches"):
        Batches(3, pairs()).load()  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="take no argument"):
        Batches(CALIBRATION, pairs()).load("DIR")


@pytest.mark.parametrize(
    ("second", "labels"),
    [
        (torch.tensor([3, 1, 3, 0]), [3, 1, 3, 0]),
        (torch.zeros(4), None),
        (torch.zeros(4, 2).long(), None),
        ([0, 1, 2, 3], None),
    ],
)
def test_labels_beside_calibration_images_are_kept(second: object, labels: list[int] | None) -> None:
    data = Batches([(images(0), second)], pairs()).load()
    assert data.calibration_labels() is None, "nothing has gone by yet"
    for _ in range(2):
        list(data.calibration())
        assert data.calibration_labels() == labels


def test_calibration_batches_that_are_bare_inputs_have_no_labels() -> None:
    data = Batches([(images(0), torch.zeros(4).long()), images(4)], pairs()).load()
    list(data.calibration())
    assert data.calibration_labels() is None
