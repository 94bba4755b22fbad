"""How long the tests of one suite may take, fixtures included, and where the time went.

What has not begun when the budget is used up does not begin, and fails. What runs by then may end, up to `OVERRUN`
times the budget; it is stopped between two batches, or two processes of a latency, where nothing is left half done: no
signal, no thread.
A step that shows no progress, such as one conversion, is not interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pytest_ptq.errors import MeasurementError

if TYPE_CHECKING:
    from pytest_ptq.plugin.options import Settings
    from pytest_ptq.runner import Progress
    from pytest_ptq.suite import Suite

OVERRUN = 1.5
CLOCK: Callable[[], float] = time.monotonic


def limit_of(suite: Suite, settings: Settings) -> float | None:
    """Seconds: the command line's, else the suite's own, else the ini file's; None for no budget."""
    own = suite.budget_s if settings.budget_s is None else settings.budget_s
    return settings.budget_default_s if own is None else own


class Budget:
    """The time that one suite takes in one process.

    Args:
        suite: its name.
        limit_s: how much there is; None counts without a limit.
        clock: seconds that only grow.
    """

    def __init__(self, suite: str, limit_s: float | None, clock: Callable[[], float] | None = None) -> None:
        self._suite = suite
        self._limit_s = limit_s
        self._clock = clock or CLOCK
        self._spent_s = 0.0
        self._since: float | None = None
        self._by_step: dict[str, float] = {}

    @property
    def spent_s(self) -> float:
        """What finished tests took, and the running one until now."""
        return self._spent_s + (0.0 if self._since is None else self._clock() - self._since)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Around one test, with its setup and teardown."""
        self._since = self._clock()
        try:
            yield
        finally:
            self._spent_s, self._since = self.spent_s, None

    def check(self) -> None:
        """Raises MeasurementError when nothing more may begin."""
        self._refuse_beyond(1.0)

    def watch(self, progress: Progress) -> Progress:
        """`progress` that tells the steps' times apart, and stops a step that overruns."""

        def watched(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
            step, before = title.partition(" ")[0], self._clock()
            with ExitStack() as stack:
                shown = progress(items, title, total)
                for source in (items, shown):
                    if isinstance(source, Generator):
                        # At once, though the traceback keeps them: a bar is wiped, processes are ended.
                        stack.callback(source.close)
                for item in shown:
                    yield item
                    now = self._clock()
                    self._by_step[step] = self._by_step.get(step, 0.0) + now - before
                    before = now
                    self._refuse_beyond(OVERRUN)

        return watched

    def _refuse_beyond(self, share: float) -> None:
        spent = self.spent_s
        if self._limit_s is None or spent < share * self._limit_s:
            return
        raise MeasurementError(
            f"not judged: the time budget of {self._limit_s:g} s of suite {self._suite} is used up "
            f"({self._where(spent)})",
            stage="budget",
            remedy="Raise it with --ptq-budget, or run less with --ptq-qconfig or --ptq-metrics.",
        )

    def _where(self, spent: float) -> str:
        steps = sorted(self._by_step.items(), key=lambda step: -step[1])
        other = spent - sum(self._by_step.values())
        return ", ".join(f"{name} {seconds:.0f} s" for name, seconds in [*steps, ("all else", max(other, 0.0))])
