import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.store.strict_json import DEEPEST, JSONError, load, parse, render

text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=30)


@given(documents, st.sampled_from([None, 0, 2]), st.booleans())
def test_it_reads_what_the_standard_writer_writes(document, indent, ascii_only):
    written = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    for found in (parse(written).value, load(written)):
        assert found == document
        assert json.dumps(found) == json.dumps(document)


@given(documents, st.floats(0, 1))
def test_it_agrees_with_the_standard_reader_on_a_truncated_document(document, share):
    written = json.dumps(document)
    written = written[: int(share * len(written))]
    try:
        expected = json.loads(written)
    except ValueError:
        with pytest.raises(JSONError):
            parse(written)
    else:
        assert parse(written).value == expected


@given(st.text(st.sampled_from('{}[]:,"\\u0019eE+-.tfn \n'), max_size=12))
def test_it_accepts_no_more_than_the_standard_reader(noise):
    try:
        found = parse(noise).value
    except JSONError:
        return
    assert json.loads(noise) == found


def test_every_value_knows_its_line():
    lines = parse('{\n  "a": {"b": [1,\n 2]},\n\n  "c":\n 3}').lines
    assert lines[()] == 1
    assert lines[("a", "b", 0)] == 2
    assert lines[("a", "b", 1)] == 3
    assert lines[("c",)] == 5


@pytest.mark.parametrize(
    ("document", "message", "line"),
    [
        ('{"a": 1,\n"a": 2}', "'a' stands there twice", 2),
        ('{"a":\n{"b": 1, "b": 1}}', "'b' stands there twice", 2),
        ('{\n"a": NaN}', "NaN is not a value", 2),
        ("[1,\n\n-Infinity]", "-Infinity is not a value", 3),
        ('{\n"a": 1e999}', "1e999 is too large", 2),
        ("[" + "9" * 400 + "]", "is too large", 1),
        ('{\n"a": 1', "truncated", 2),
        ('{\n"a": "x', "is not JSON", 2),
        ("", "truncated", 1),
        ("{}\n{}", "something follows", 1),
        ('{"a": 01}', "is not JSON", 1),
        ("[1 2]", "',' is expected", 1),
        ("{1: 2}", "a key in quotes is expected", 1),
        ("[,]", "a value is expected", 1),
        ('["\x00"]', "is not JSON", 1),
        ('["\\ud800"]', "surrogate", 1),
        ("nul", "nul is not a value", 1),
    ],
)
def test_faults_name_their_line(document, message, line):
    for read in (parse, load):
        with pytest.raises(JSONError, match=message) as caught:
            read(document)
        assert caught.value.line == line


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_ten_megabytes_of_nesting_are_one_error(opening):
    for read in (parse, load):
        with pytest.raises(JSONError, match="nested more than"):
            read(opening * (10 * 2**20 // len(opening)))


@given(st.text(st.sampled_from('{}[]:,"\\u0019eE+-.tfn \n'), max_size=12))
def test_the_fast_way_accepts_what_the_careful_one_does(noise):
    try:
        found = parse(noise).value
    except JSONError:
        with pytest.raises(JSONError):
            load(noise)
    else:
        assert json.dumps(load(noise)) == json.dumps(found)


@given(documents)
def test_what_is_written_is_read_again(document):
    assert json.dumps(parse(render(document)).value) == json.dumps(document)


def test_plain_values_stand_side_by_side_and_others_below_one_another():
    assert render({"a": [1, 2.5], "b": [], "c": [[1], {}]}) == (
        '{\n  "a": [1, 2.5],\n  "b": [],\n  "c": [\n    [1],\n    {}\n  ]\n}'
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        render({"a": [1.0, math.nan]})


def test_reasonable_nesting_is_read():
    assert parse("[" * DEEPEST + "]" * DEEPEST).value is not None


def test_numbers_keep_their_kind():
    found = parse("[1, 1.0, -0, 1e3, 12345678901234567890]").value
    assert [type(n) for n in found] == [int, float, int, float, int]
    assert found[-1] == 12345678901234567890
    assert all(map(math.isfinite, found))
