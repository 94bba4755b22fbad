"""A strict JSON reader that knows on which line everything stands.

The standard reader accepts what a reviewed file must not hold (duplicate keys, NaN, 1e999), gives no line for what it
accepts, and exhausts the stack on deep nesting. This one refuses all of these by line, and returns the line of every
value beside it, so that a verdict can name the line its limit comes from.
"""

from __future__ import annotations

import bisect
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEEPEST = 32
"""Levels of nesting; our own files have seven."""

Keys = tuple[str | int, ...]
"""The keys and indexes that lead to a value, from the outside in."""

_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(
    r"""(?P<string>"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*")"""
    r"""|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))"""
    r"""|(?P<word>-?[A-Za-z]+)"""
    r"""|(?P<mark>[][{}:,])"""
)
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}


class JSONError(ValueError):
    """What is wrong, and on which line (from 1)."""

    def __init__(self, message: str, line: int):
        super().__init__(message)
        self.message, self.line = message, line


@dataclass(frozen=True)
class Located:
    """A value, and the line of each value inside it by its path: `("data", "embedded", "limits")` -> 5."""

    value: Any
    lines: Mapping[Keys, int]


def load(text: str) -> Any:
    """The value of `parse(text)` in a small part of its time. Raises JSONError as `parse` does.

    The standard reader is asked first, told to refuse what it would let pass; whatever it refuses is left to `parse`,
    which says where. Of what `parse` refuses it lets through nesting only, down to its own limit.
    """
    if "\\u" not in text:  # which may write half a surrogate pair
        try:
            return json.loads(
                text, object_pairs_hook=_object, parse_float=_finite, parse_int=_whole, parse_constant=_refuse
            )
        except (ValueError, RecursionError):
            pass
    return parse(text).value


def render(value: Any, indent: int = 0) -> str:
    """`value` as JSON, one item a line; a list of plain values stays on one line. Raises TypeError or ValueError."""
    items: list[str] = []
    pad = "  " * (indent + 1)
    if isinstance(value, dict) and value:
        items = [f"{pad}{_flat(key)}: {render(item, indent + 1)}" for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        items = [f"{pad}{render(item, indent + 1)}" for item in value]
    if not items:
        return _flat(value)
    first, last = "{}" if isinstance(value, dict) else "[]"
    return "\n".join((first, ",\n".join(items), "  " * indent + last))


def _flat(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that is there twice")
    return found


def _finite(token: str) -> float:
    if math.isinf(number := float(token)):
        raise ValueError(f"the number {token} is too large")
    return number


def _whole(token: str) -> int:
    if len(token) > 300:
        _finite(token)
    return int(token)


def _refuse(token: str) -> float:
    raise ValueError(f"{token} is not a value that JSON knows")


def parse(text: str) -> Located:
    """Read `text`, the whole of one JSON document. Raises JSONError."""
    reader = _Reader(text)
    value = reader.value((), 0)
    reader.finish()
    return Located(value, reader.lines)


class _Reader:
    def __init__(self, text: str):
        self.text = text
        self.position = 0
        self.lines: dict[Keys, int] = {}
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def value(self, path: Keys, depth: int) -> Any:
        kind, token = self._next()
        self.lines.setdefault(path, self._line())
        if kind == "string":
            return self._string(token)
        if kind == "number":
            return self._number(token)
        if kind == "word" and token in _WORDS:
            return _WORDS[token]
        if token in ("{", "["):
            if depth == DEEPEST:
                raise self._fault(f"it is nested more than {DEEPEST} deep")
            return self._object(path, depth + 1) if token == "{" else self._array(path, depth + 1)
        raise self._fault(f"a value is expected, not {token}")

    def finish(self) -> None:
        self._skip()
        if self.position != len(self.text):
            raise self._fault("something follows the end of the document")

    def _object(self, path: Keys, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._accept("}"):
            return found
        while True:
            kind, token = self._next()
            if kind != "string":
                raise self._fault(f"a key in quotes is expected, not {token}")
            key = self._string(token)
            if key in found:
                raise self._fault(f"the key {key!r} stands there twice")
            self.lines[(*path, key)] = self._line()
            self._expect(":")
            found[key] = self.value((*path, key), depth)
            if self._accept("}"):
                return found
            self._expect(",")

    def _array(self, path: Keys, depth: int) -> list[Any]:
        found: list[Any] = []
        if self._accept("]"):
            return found
        while True:
            found.append(self.value((*path, len(found)), depth))
            if self._accept("]"):
                return found
            self._expect(",")

    def _string(self, token: str) -> str:
        text: str = json.loads(token)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._fault("a string holds half a surrogate pair") from None
        return text

    def _number(self, token: str) -> float | int:
        number = float(token)
        if math.isinf(number):
            raise self._fault(f"the number {token[:20]} is too large")
        return number if set(token) & set(".eE") else int(token)

    def _next(self) -> tuple[str, str]:
        self._skip()
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            if self.position == len(self.text):
                raise self._fault("it ends in the middle (truncated?)")
            raise self._fault(f"{self.text[self.position : self.position + 10]!r} is not JSON")
        self.position = match.end()
        kind, token = str(match.lastgroup), match.group()
        if kind == "word" and token not in _WORDS:
            raise self._fault(f"{token[:20]} is not a value that JSON knows")
        return kind, token

    def _expect(self, mark: str) -> None:
        kind, token = self._next()
        if (kind, token) != ("mark", mark):
            raise self._fault(f"{mark!r} is expected, not {token[:20]}")

    def _accept(self, mark: str) -> bool:
        self._skip()
        found = self.text.startswith(mark, self.position)
        self.position += found
        return found

    def _skip(self) -> None:
        match = _SPACE.match(self.text, self.position)
        self.position = match.end() if match else self.position

    def _line(self) -> int:
        """The line of the token just read, or of the place where none was found."""
        return bisect.bisect_left(self._ends, max(0, self.position - 1)) + 1

    def _fault(self, message: str) -> JSONError:
        return JSONError(message, self._line())
