"""What a runtime's message says about where it stopped: it is read for the operation and the node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from pytest_ptq.errors import InferenceError, PTQError

Patterns: TypeAlias = tuple[re.Pattern[str], ...]
"""The first that is found tells; groups `op` and `node`, either of which may be absent, and `why`."""
LONGEST = 240
"""Characters of a runtime's own words that are repeated."""


def patterns(*expressions: str) -> Patterns:
    return tuple(re.compile(expression, re.DOTALL) for expression in expressions)


@contextmanager
def told(title: str, does: str, known: Patterns, *, remedy: str | None = None) -> Iterator[None]:
    """Whatever is raised inside becomes one InferenceError.

    Args:
        title: of the runtime.
        does: what it is doing, such as `load` or `run`.
        known: the runtime's ways of saying where it stopped.
        remedy: what to do about it.
    """
    try:
        yield
    except (PTQError, ImportError, MemoryError):
        raise
    except Exception as error:
        # The packages raise RuntimeError, their own exceptions derived from Exception alone, and ValueError.
        raise failure(title, does, str(error) or type(error).__name__, known, remedy) from error


def failure(title: str, does: str, text: str, known: Patterns, remedy: str | None = None) -> InferenceError:
    """The error for a runtime's own words `text`."""
    found = next((match for pattern in known if (match := pattern.search(text))), None)
    said = found.groupdict() if found else {}
    where = " ".join(filter(None, (said.get("op"), f"node {said['node']!r}" if said.get("node") else None)))
    why = _in_short(said.get("why") or text)
    message = f"{title} cannot {does} the model" + (f" (it stops at {where})" if where else "")
    return InferenceError(f"{message}: {why}", place=None, remedy=remedy)


def _in_short(text: str) -> str:
    """The first paragraph on one line, cut where it is long."""
    first = text.strip().partition("\n\n")[0]
    words = " ".join(first.split()).rstrip(".") or "it does not say why"
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 3]}..."
