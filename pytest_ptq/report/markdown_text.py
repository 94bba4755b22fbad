"""Text from files and models, as GitHub's Markdown shows it and never obeys it.

Whatever could begin a structure is written as a character reference, of which CommonMark says that it "cannot be used
in place of symbols indicating structure" (spec 0.31, section 2.5). GitHub looks for mentions and references to issues
after that, in the text of what was rendered: there an empty comment keeps the sign from what stands behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pytest_ptq.report.printable import printable

LONGEST_NAME = 120
LONGEST_SENTENCE = 700
"""Characters as they are written. A comment on GitHub takes 65,536, which 60 lines of these do not reach."""

_PLAIN = frozenset(".,-+/%=?'\";:()[]>_ ")
"""ASCII punctuation that begins nothing within a line, but for what `_piece` says of some."""
_BREAK = "<!-- -->"
_QUOTABLE = re.compile(r"[\w.+/-]([\w.+/:\[\], =-]*[\w\])])?", re.ASCII)


def safe(text: str, longest: int = LONGEST_SENTENCE) -> str:
    """`text` as one line of Markdown that renders as the same text and nothing else; cut where it is too long."""
    plain = printable(text).strip()
    written: list[str] = []
    room = longest - 1
    for place in range(len(plain)):
        piece = _piece(plain, place)
        room -= len(piece)
        if room < 0:
            return "".join([*written, "…"])
        written.append(piece)
    return "".join(written)


def code(text: str, longest: int = LONGEST_NAME) -> str:
    """`text` in a fixed-width font: between backticks where that holds, else as an element of HTML.

    GitHub looks for no mentions in either.
    """
    if len(text) <= longest - 2 and _QUOTABLE.fullmatch(text):
        return f"`{text}`"
    return f"<code>{safe(text, longest)}</code>"


def rows(titles: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
    """A table, without a blank line around it. The cells are Markdown already; an empty one shows "-"."""
    lines = [" | ".join(titles), " | ".join("---" for _ in titles)]
    lines += [" | ".join(cell or "-" for cell in row) for row in cells]
    return [f"| {line} |" for line in lines]


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    """A block that opens at a click, with a blank line before it; nothing when there is nothing in it."""
    if not lines:
        return []
    return ["", f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]


def _piece(text: str, place: int) -> str:
    """What stands for one character, given what is around it."""
    character = text[place]
    if character in "@#" or (character == "-" and re.search(r"gh-\d", text[max(place - 2, 0) : place + 2], re.I)):
        return f"&#{ord(character)};{_BREAK}"  # @name, #1, GH-1
    if not character.isascii() or character.isalnum():
        return character
    around = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
    harmless = {
        "_": all(side.isalnum() for side in around),  # within a word it emphasizes nothing
        ":": around[1] != "/",  # no URL
        "]": around[1] not in ("(", "[", ":"),  # no link
        ".": text[max(place - 3, 0) : place].lower() != "www",
    }.get(character, character in _PLAIN)
    return character if harmless else f"&#{ord(character)};"
