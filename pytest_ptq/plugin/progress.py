"""How far calibration, evaluation and latency are: a bar on a terminal, a line every ten seconds elsewhere.

Tests run with their output captured, and the bar must not end up in it, nor overwrite pytest's own line. So every
write suspends the capture for a moment; the bar stands below pytest's line, and the cursor goes back when it is done.
"""

from __future__ import annotations

import os
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
        column: where pytest's cursor stands in its line; None when nobody can tell, and pytest starts a line anew.
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
        column: Callable[[], int] | None = None,
    ) -> None:
        self._terminal = terminal
        self._uncaptured = uncaptured
        self._clock = clock
        self._delay = delay
        self._interval = interval
        self._width = width
        self._column = column

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
        screen = _Screen(terminal, self._uncaptured, self._column, self._width)
        bar = bar_type(
            total=total,
            desc=f"ptq: {title}",
            file=screen,
            leave=False,
            delay=self._delay,
            mininterval=self._interval,
            ncols=self._width,
        )
        try:
            for item in items:
                yield item
                bar.update()
        finally:
            bar.close()
            screen.close()

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
    """The file a bar draws on: standard output with the capture suspended, on the line below pytest's."""

    def __init__(
        self,
        terminal: Terminal,
        uncaptured: Callable[[], AbstractContextManager[object]],
        column: Callable[[], int] | None,
        width: int,
    ) -> None:
        self._terminal = terminal
        self._uncaptured = uncaptured
        self._column = column
        self._width = width
        self._opened = False
        self._back = ""
        self.encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        with self._uncaptured():
            if text and not self._opened:
                self._open()
            sys.stdout.write(text)
            sys.stdout.flush()
        return len(text)

    def flush(self) -> None:
        """Every write has been flushed already."""

    def close(self) -> None:
        """Put the cursor back to where pytest left it. The bar has been wiped by then."""
        if self._back:
            self.write(self._back)
            self._back = ""

    def _open(self) -> None:
        self._opened = True
        column = self._column() if self._column is not None else self._width
        if column >= self._width:  # a line that is broken, or somebody else's
            self._terminal.ensure_newline()
        elif column > 0:
            sys.stdout.write("\n")
            self._back = f"\x1b[A\x1b[{column}C"  # up one line, and right


def _share(done: int, total: int | None) -> str:
    return f"{done}" if not total else f"{done} of {total} ({100 * done / total:.0f} %)"


def progress_display(config: pytest.Config) -> ProgressDisplay:
    """The display that fits this pytest process."""
    plugins: Any = config.pluginmanager
    terminal, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")
    if terminal is None:
        return ProgressDisplay(None)
    writer = config.get_terminal_writer()
    # Without capture, tests write between pytest's words, and only they know where the cursor is.
    known = capture is not None and config.getoption("capture") != "no" and os.environ.get("TERM") != "dumb"
    return ProgressDisplay(
        terminal,
        nullcontext if capture is None else capture.global_and_fixture_disabled,
        delay=BAR_DELAY_S,
        interval=BAR_INTERVAL_S,
        width=writer.fullwidth - 1,  # asked now: under capture standard output is no terminal and has no width
        column=(lambda: writer.width_of_current_line) if known else None,
    )
