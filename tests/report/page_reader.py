"""Reads a page as a browser would, as far as a parser can: its elements, its text, its scripts, its data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

EMPTY = {"meta", "link", "input", "br"}
QUIET = {"script", "style"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[Element] = field(default_factory=list)

    def all(self, tag: str = "", **wanted: str) -> list[Element]:
        """Every element below, of that tag, with those attributes (`class_` holds one of several)."""
        found = []
        for element in self.inside:
            fits = (not tag or element.tag == tag) and all(
                value in element.attributes.get("class", "").split()
                if name == "class_"
                else element.attributes.get(name.replace("_", "-")) == value
                for name, value in wanted.items()
            )
            found += [element] if fits else []
            found += element.all(tag, **wanted)
        return found

    def one(self, tag: str = "", **wanted: str) -> Element:
        (found,) = self.all(tag, **wanted)
        return found

    @property
    def words(self) -> str:
        """Its text with that of everything below, blanks made one."""
        return " ".join(self._words().split())

    def _words(self) -> str:
        return self.text if not self.inside else "".join(e._words() for e in self.inside)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(element)
        if tag not in EMPTY:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> ends {self.open[-1].tag}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1].tag in QUIET:
            self.open[-1].text += data
        else:
            self.open[-1].inside.append(Element("#text", {}, data))


def read(page: str) -> Element:
    """The page as a tree. Fails on an element that is not closed where it should be."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert parser.open == [parser.root]
    return parser.root


def data_of(page: Element) -> Any:
    return json.loads(page.one("script", id="data").text)
