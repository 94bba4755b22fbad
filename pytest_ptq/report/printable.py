"""Text that comes from files and models, made safe for a terminal or a log."""

from __future__ import annotations

import unicodedata

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control, formatting (right-to-left overrides among them), surrogates, line and paragraph separators."""


def printable(text: str) -> str:
    """`text` on one line, with whatever could move a cursor, colour or reverse it replaced by its escape (`\\x1b`)."""
    return "".join(_escape(c) if unicodedata.category(c) in _HARMFUL else c for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
