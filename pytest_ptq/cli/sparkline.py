"""A series of values as one line of text."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

BARS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-=+*#@"
"""For terminals whose encoding has no bars."""
CHANGE = "|"
WIDEST = 60
"""Values shown at most: the newest."""


def sparkline(values: Sequence[float], changes: Collection[int] = (), bars: str | None = None) -> str:
    """One character a value from the lowest to the highest, with "|" before each value at which a change is told.

    Args:
        values: finite, oldest first; of more than 60, the newest are shown.
        changes: indexes into `values`.
        bars: characters from low to high; by default what the terminal can show.
    """
    if not values:
        return ""
    signs = bars or (BARS if _can_show(BARS) else PLAIN)
    first = max(0, len(values) - WIDEST)
    low, high = min(values[first:]), max(values[first:])
    text = []
    for i in range(first, len(values)):
        # Halves first: the difference of two large numbers may be no number.
        share = (values[i] / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5
        text.append(
            (CHANGE if i in changes and i > first else "") + signs[min(int(share * len(signs)), len(signs) - 1)]
        )
    return "".join(text)


def _can_show(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
