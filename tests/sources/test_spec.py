from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import PTQError, UnknownNameError, UsageError
from pytest_ptq.sources import parse_data_spec


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("embedded", ("embedded", None)),
        (" embedded ", ("embedded", None)),
        ("imagenet=/data/a b", ("imagenet", "/data/a b")),
        ("folder=~/x=y", ("folder", "~/x=y")),
    ],
)
def test_specs_are_split_at_the_first_equals_sign(spec: str, parsed: tuple[str, str | None]) -> None:
    assert parse_data_spec(spec) == parsed


@pytest.mark.parametrize(
    "spec", ["", "  ", "=", "=DIR", "imagenet", "imagenet=", "folder=  ", "embedded=x", "embedded="]
)
def test_nonsense_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="--ptq-data"):
        parse_data_spec(spec)


def test_an_unknown_kind_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'imagenet'"):
        parse_data_spec("imagnet=DIR")


def test_further_kinds_take_an_argument_or_none() -> None:
    assert parse_data_spec("coco", extra=["coco"]) == ("coco", None)
    assert parse_data_spec("coco=DIR", extra={"coco": object()}) == ("coco", "DIR")
    with pytest.raises(UsageError):
        parse_data_spec("coco=", extra=["coco"])


def test_a_suite_cannot_change_what_a_known_kind_takes() -> None:
    with pytest.raises(UsageError):
        parse_data_spec("imagenet", extra=["imagenet"])


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused_in_one_sentence(spec: str) -> None:
    try:
        kind, _ = parse_data_spec(spec)
    except PTQError:
        return
    assert kind in {"embedded", "imagenet", "folder"}
