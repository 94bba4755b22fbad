"""How far calibration, evaluation and latency are: a bar on a terminal, a line every ten seconds elsewhere.

Tests run with their output captured, and the bar must not end up in it, nor overwrite pytest's own line. So every
write suspends the capture for a moment, and the first one moves pytest to a fresh line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import pytest

T = TypeVar("T")
LINE_INTERVAL_S = 10.0
BAR_DELAY_S = 1.0
BAR_INTERVAL_S = 0.5


class Terminal(Protocol):
    """The part of pytest's terminal reporter that is used here."""

    isatty: bool

    def ensure_newline(self) -> None: ...
    def write_line(self, line: str) -> None: ...


class ProgressDisplay:
    """`progress(items, title, total)` yields the items and shows how far it is; see `pytest_ptq.runner.Progress`.

    Args:
        terminal: pytest's terminal reporter; None shows nothing (a worker of pytest-xdist has none).
        uncaptured: a context within which writes reach the real output.
        clock: seconds, for the plain lines.
        delay: seconds before a bar appears at all.
        interval: seconds between two refreshes of a bar.
        width: columns a bar may take.
    """

    def __init__(
        self,
        terminal: Terminal | None,
        uncaptured: Callable[[], AbstractContextManager[object]] = nullcontext,
        *,
        clock: Callable[[], float] = time.monotonic,
        delay: float = BAR_DELAY_S,
        interval: float = BAR_INTERVAL_S,
        width: int = 79,
    ) -> None:
        self._terminal = terminal
        self._uncaptured = uncaptured
        self._clock = clock
        self._delay = delay
        self._interval = interval
        self._width = width

    def __call__(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
        if total is None and isinstance(items, Sized):
            total = len(items)
        if self._terminal is None:
            yield from items
        elif self._terminal.isatty:
            yield from self._bar(self._terminal, items, title, total)
        else:
            yield from self._lines(self._terminal, items, title, total)

    def _bar(self, terminal: Terminal, items: Iterable[T], title: str, total: int | None) -> Iterator[T]:
        from tqdm import tqdm

        # tqdm's monitor is a thread that would wake up while latency is measured.
        bar_type = type("Bar", (tqdm,), {"monitor_interval": 0})
        bar = bar_type(
            total=total, desc=f"ptq: {title}", file=_Screen(terminal, self._uncaptured), leave=False,
            delay=self._delay, mininterval=self._interval, ncols=self._width,
        )  # fmt: skip
        with bar:
            for item in items:
                yield item
                bar.update()

    def _lines(self, terminal: Terminal, items: Iterable[T], title: str, total: int | None) -> Iterator[T]:
        start = last = self._clock()
        for done, item in enumerate(items, start=1):
            yield item
            now = self._clock()
            if now - last >= LINE_INTERVAL_S:
                last = now
                with self._uncaptured():
                    terminal.ensure_newline()
                    terminal.write_line(f"ptq: {title}: {_share(done, total)}, {now - start:.0f} s")


class _Screen:
    """The file a bar draws on: standard output with the capture suspended, on a line of its own."""

    def __init__(self, terminal: Terminal, uncaptured: Callable[[], AbstractContextManager[object]]) -> None:
        self._terminal = terminal
        self._uncaptured = uncaptured
        self._fresh = False
        self.encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        if not text:
            return 0
        with self._uncaptured():
            if not self._fresh:
                self._terminal.ensure_newline()
                self._fresh = True
            sys.stdout.write(text)
            sys.stdout.flush()
        return len(text)

    def flush(self) -> None:
        """Every write has been flushed already."""


def _share(done: int, total: int | None) -> str:
    return f"{done}" if not total else f"{done} of {total} ({100 * done / total:.0f} %)"


def progress_display(config: pytest.Config) -> ProgressDisplay:
    """The display that fits this pytest process."""
    plugins: Any = config.pluginmanager
    capture = plugins.getplugin("capturemanager")
    uncaptured = nullcontext if capture is None else capture.global_and_fixture_disabled
    terminal = plugins.getplugin("terminalreporter")
    # Asked now: under capture standard output is no terminal and has no width.
    width = config.get_terminal_writer().fullwidth - 1 if terminal else 79
    return ProgressDisplay(terminal, uncaptured, width=width)
