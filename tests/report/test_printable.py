import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.report.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("features.1.conv.0", "features.1.conv.0"),
        ("größe 模型", "größe 模型"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("two\nlines\r\ttab", "two\\nlines\\r\\ttab"),
        ("\u202eevil", "\\u202eevil"),
        ("\x9b31m", "\\x9b31m"),
        ("a\x00b", "a\\x00b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_could_act_is_shown_instead(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_the_result_is_one_harmless_encodable_line(text):
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
    assert printable(shown) == shown
    shown.encode()
