"""The fenced blocks of a page, and whether a run printed what a page says it printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e-?\d+)?|\bnan\b")


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str

    def commands(self) -> list[tuple[str, list[str]]]:
        """Of a console: each command and the lines that it prints."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
        return found


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in _FENCE.findall((DOCS / page).read_text(encoding="utf-8"))]


def block(page: str, title: str) -> str:
    (found,) = [block.text for block in blocks(page) if block.title == title]
    return found


def write(found: Block, folder: Path) -> None:
    """Put the file of a block into `folder`: whole, or with the lines of a diff replaced."""
    path = folder / found.title
    if found.language != "diff":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found.text, encoding="utf-8")
        return
    before, after = ("\n".join(x[1:] for x in found.text.splitlines() if x[0] == sign) for sign in "-+")
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, after), encoding="utf-8")


def plain(line: str) -> str:
    """A line without what differs from machine to machine: numbers, keys, files in a folder of the test's own."""
    line = re.sub(r"\w+/onednn/\w+/torch[\d.]+", "KEY", line)
    line = re.sub(r"`[0-9a-f]{12}`|\d{4}-\d\d-\d\d", "COMMIT", line)
    line = re.sub(r"^(\*\*[^*]*\*\*|before|after) .*", r"\1", line)  # names of runs and commits
    line = re.sub(r"isa=\w+ threads=\d+", "MACHINE", line)
    line = re.sub(r"(?:/[\w.-]+)*/?\.ptq/history/\S+", "RECORD", line)
    line = re.sub(r"report: \S*/", "report: ", line)
    line = _NUMBER.sub("N", line)
    return re.sub(r"[-=_]{3,}", "---", re.sub(r"\s+", " ", line)).strip()


def missing(said: list[str], printed: list[str]) -> list[str]:
    """What a page says a command prints, and it does not, at least not behind what comes before it on the page."""
    rest = iter([plain(line) for line in printed])
    return [line for line in said if plain(line) and not any(plain(line) == found for found in rest)][:1]
