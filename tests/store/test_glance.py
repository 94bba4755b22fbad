"""The short way to a digest: the same as the long one, or none; never one of a text that the long way refuses."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.errors import StoreError
from pytest_ptq.metrics import (
    FLIPS,
    LATENCY_RATIO,
    METRICS,
    SIZE_INT8,
    SQNR,
    Judgement,
    LayerError,
    Limit,
    Measurement,
    Verdict,
)
from pytest_ptq.store.digest import digest_of
from pytest_ptq.store.glance import Glance
from pytest_ptq.store.record import QConfigRecord, RunRecord
from store.test_record import records


def result(qconfig, **fields):
    measured = {
        FLIPS.key: Measurement(FLIPS, 1.5, 0.5, 2.5, 64, {"drop_pp": 0.5, "why": "few", "looks": 2, "sure": True}),
        SIZE_INT8.key: Measurement(SIZE_INT8, 1654080),
    }
    judged = {
        FLIPS.key: Judgement(Verdict.FAIL, measured[FLIPS.key], Limit(FLIPS, 1, "net.json:7"), "why", None),
        SQNR.key: Judgement(Verdict.PASS, Measurement(SQNR, 30.0), None, "", Measurement(SQNR, 31.25, samples=8)),
    }
    given = {"measurements": measured, "judgements": judged, "pairs": ((0.345, 1.0, 12.5), (), (0.001,)), **fields}
    return QConfigRecord("net", "embedded", qconfig, True, **given)


USUAL = RunRecord(
    {"key": "avx2/onednn/2t/torch2.15", "cores": 2, "vnni": False},
    {"torch": "2.15.0"},
    (
        result("x86", errors=("it could not be timed",), fp32_layers=(("fc", "by the qconfig"),)),
        result("q-openvino", machine_key="o", runtime="openvino", runtime_ms={"a": 2.5}, runtime_errors={"b": "why"}),
        result("minmax", worst_layers=(LayerError("conv", "conv2d", 3.5, scale=0.1, zero_point=3),), pairs=()),
        QConfigRecord("other", "embedded", "x86", None),
    ),
    commit="c0ffee",
    branch="main",
    commit_subject="Ein Gruß \"in\" Anführungszeichen: {'pairs': [",
    commit_time=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip
TEXT = USUAL.to_json()


def looked_at(text):
    """What the short way says, after it was held against the long one."""
    found = Glance().digest(text)
    try:
        expected = digest_of(RunRecord.from_json(text))
    except StoreError:
        expected = None
    assert found is None or repr(found) == repr(expected)
    return found


def test_what_this_version_writes_is_read_the_short_way():
    assert looked_at(TEXT) is not None


def test_one_that_was_read_before_changes_nothing():
    other = TEXT.replace('"x86"', '"other"').replace("1654080", "5").replace("flips_percent", "own_percent")
    glance = Glance()
    for text in (TEXT, other, TEXT, other):
        assert repr(glance.digest(text)) == repr(digest_of(RunRecord.from_json(text)))
    assert glance.digest(TEXT).keys is glance.digest(TEXT).keys, "many runs take no more room than they have to"


@pytest.mark.parametrize("last", ["pairs", "runtime_ms"])
def test_records_of_versions_that_wrote_fewer_keys(last):
    keys = ("runtime", "machine_key", "runtime_ms", "runtime_errors")
    text = TEXT
    for key in keys[keys.index(last) + 1 if last in keys else 0 :]:
        text = re.sub(rf',\n      "{key}": (\{{[^}}]*\}}|[^\n,]*)', "", text)
    assert text != TEXT
    assert looked_at(text) is not None
    assert looked_at(text.replace('"schema": 3', '"schema": 2')) is not None


@given(records)
def test_the_short_way_says_what_the_long_one_does(record):
    looked_at(record.to_json())


@given(
    st.integers(0, len(TEXT)),
    st.integers(0, 8),
    st.text(st.sampled_from('{}[]:,"\\ue0159.-+ \n\tnNatrf'), max_size=5),
)
def test_of_a_damaged_text_it_says_nothing_that_the_long_one_does_not(at, gone, new):
    looked_at(TEXT[:at] + new + TEXT[at + gone :])


@given(st.integers(0, TEXT.count("\n")), st.integers(1, 3), st.integers(0, TEXT.count("\n")))
def test_lines_that_are_missing_or_stand_elsewhere(first, count, to):
    lines = TEXT.splitlines()
    moved = lines[first : first + count]
    for rest in (lines[:first] + lines[first + count :], lines):
        looked_at("\n".join((*rest[:to], *moved, *rest[to:])))
        looked_at("\n".join(rest))


VALUES = ("1e999", "-1e999", "NaN", "Infinity", "1" * 400, "[]", "{}", "[[1]]", '{"a": 1, "a": 1}', "null", "true",
          '"\\ud800"', '"a\nb"', "1.", ".5", "01", "-", '"', "")  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_a_value_that_does_not_belong_there(value):
    """In the place of each value in turn."""
    for place in re.finditer(r'(?<=: )(?:"(?:[^"\\]|\\.)*"|[^\s,{\[]+)', TEXT):
        looked_at(TEXT[: place.start()] + value + TEXT[place.end() :])


def test_what_the_long_way_refuses_in_the_place_of_a_value_is_not_read():
    """So that what is held against it above is more than nothing."""
    for value in ("1e999", "NaN", '"\\ud800"', ""):
        for place in re.finditer(r'(?<=: )(?:"(?:[^"\\]|\\.)*"|[^\s,{\[]+)', TEXT):
            assert Glance().digest(TEXT[: place.start()] + value + TEXT[place.end() :]) is None


def test_a_key_that_is_there_twice():
    for place in re.finditer(r'"[^"\n]+": (?=[^\n]*\n)', TEXT):
        text = f"{TEXT[: place.start()]}{place.group()}1, {TEXT[place.start() :]}"
        assert Glance().digest(text) is None
        with pytest.raises(StoreError, match="stands there twice"):
            RunRecord.from_json(text)


PAIRS = "[0.345, 1.0, 12.5]"


@pytest.mark.parametrize(
    ("pairs", "read"),
    [
        ("[0.345]", True),
        ("[]", True),
        ("[0.0]", False),
        ("[-0.5]", False),
        ("[0.5, NaN]", False),
        ("[1e999]", False),
        ("[1e-05]", False),  # the long way reads it
        ("[00.5]", False),
        ("[1.]", False),
        ("[.5]", False),
        ("[0.5.5]", False),
        ("[0.5 0.5]", False),
        ("[0.5,, 0.5]", False),
        ("[0.5, ]", False),
        ("[0.5]]", False),
        ("[[0.5]]", False),
        ("[0.5", False),
        ("0.5", False),
        ("[٣.٤]", False),
        (f"[0.{'0' * 400}1]", False),
        (f"[{'9' * 400}.0]", False),
    ],
)
def test_pairs_are_held_to_what_they_have_to_be(pairs, read):
    text = TEXT.replace(PAIRS, pairs)
    assert text != TEXT
    assert (looked_at(text) is not None) == read


def test_pairs_inside_a_string_are_no_pairs():
    hidden = '"why\n      "pairs": [\n        [0.5]\n      ]"'
    assert looked_at(TEXT.replace('"why"', hidden)) is None


def test_a_text_that_is_nested_deeper_than_can_be_read():
    assert looked_at(TEXT.replace('"few"', "[" * 100_000 + "]" * 100_000)) is None


def test_every_metric_is_known_by_the_key_that_it_has_itself():
    text = TEXT.replace('    "flips_percent": {', '    "by another name": {').replace(
        '"metric": "flips_percent"', '"metric": "by another name"'
    )
    found = looked_at(text)
    assert {key.metric for key in found.keys} <= METRICS.keys()
    assert LATENCY_RATIO.key not in {key.metric for key in found.keys}
