"""Text that comes from files and models, made safe for a terminal or a log."""

from __future__ import annotations

import unicodedata

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control, formatting (right-to-left overrides among them), surrogates, line and paragraph separators."""


def printable(text: str) -> str:
    """`text` on one line, with whatever could do harm replaced by its escape.

    Harm is what moves a cursor, colours or reverses (`\\x1b`), and what GitHub's runner would obey in a log: `::` at
    the beginning of a line, and `##[` anywhere (`\\x3a:`, `#\\x23[`).
    """
    plain = "".join(_escape(c) if unicodedata.category(c) in _HARMFUL else c for c in text).replace("##[", r"#\x23[")
    body = plain.lstrip()
    return plain if not body.startswith("::") else plain[: -len(body)] + r"\x3a" + body[1:]


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
