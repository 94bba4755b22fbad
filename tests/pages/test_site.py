"""The site: it builds without a warning, asks nobody else for anything, and names all that there is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import pytest_ptq
from pytest_ptq.plugin import hooks, hookspecs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {"PATH": "", "NO_MKDOCS_2_WARNING": "1", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Fetched(HTMLParser):
    """What a browser asks for while it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(given.get("href") or "")
        if tag in ("script", "img", "iframe", "source", "video", "audio", "object", "embed"):
            self.found.append(given.get("src") or given.get("data") or "")


def elsewhere(text: str) -> list[str]:
    page = Fetched()
    page.feed(text)
    return [address for address in page.found if re.match(r"(\w+:)?//", address)]


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        assert elsewhere(page.read_text(encoding="utf-8")) == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_what_is_fetched_from_elsewhere_would_be_found() -> None:
    assert elsewhere('<link rel="stylesheet" href="https://fonts.example/x">')
    assert elsewhere('<script src="//cdn.example/m.js"></script>')
    assert not elsewhere('<link rel="canonical" href="https://example.org/"><script src="assets/x.js"></script>')


def leaves(part: Any) -> Iterator[str]:
    """The files of a navigation."""
    if isinstance(part, str):
        yield part
    else:
        for inner in part.values() if isinstance(part, dict) else part:
            yield from leaves(inner)


def test_every_page_of_the_navigation_is_there(site: Path) -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = list(leaves(yaml.safe_load(text)["nav"]))
    for page in navigation:
        folder = site if page == "index.md" else site / page.removesuffix(".md")
        assert (folder / "index.html").is_file(), page
    assert (site / "search" / "search_index.json").is_file()


def identifiers(page: Path) -> set[str]:
    """Last parts of the names that a page of the reference describes."""
    found = re.findall(r'id="(pytest_ptq[\w.]*)"', page.read_text(encoding="utf-8"))
    return {name.rpartition(".")[2] for name in found}


def test_the_reference_has_every_public_name(site: Path) -> None:
    found = identifiers(site / "reference" / "python" / "index.html")
    assert set(pytest_ptq.__all__) - {"__version__"} <= found


def test_the_reference_has_every_fixture_and_hook(site: Path) -> None:
    found = identifiers(site / "reference" / "pytest" / "index.html")
    fixtures = {name for name in hooks.__all__ if not name.startswith("_")}
    specs = {name for name in vars(hookspecs) if name.startswith("pytest_ptq_")}
    assert fixtures
    assert specs
    assert fixtures | specs <= found


def test_the_picture_of_the_engine_is_what_the_tool_draws() -> None:
    from tools.draw_engine import ARROWS, BOXES, TARGET, draw

    assert TARGET.read_text(encoding="utf-8") == draw()
    assert {name for arrow in ARROWS for name in arrow} == set(BOXES)


def test_the_stages_of_the_picture_are_those_of_the_engine() -> None:
    from pytest_ptq import engine
    from pytest_ptq.engine import capture, correct, observe, plan
    from tools.draw_engine import BOXES

    named = {box.name for box in BOXES.values() if box.kind == "stage"}
    assert named - set(engine.__all__) == {"capture", "correct", "observe", "plan"}
    assert all((capture, correct, observe, plan))
