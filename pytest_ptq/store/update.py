"""Changing a baseline file that others may change at the same time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_ptq.store.baselines import Baselines, refuse_link, unwritable
from pytest_ptq.store.lock import locked


@dataclass(frozen=True)
class Updated:
    """The baselines as they were on disk, and as they are now."""

    before: Baselines
    after: Baselines

    @property
    def wrote(self) -> bool:
        return self.after.text != self.before.text


def update_file(start: Baselines, change: Callable[[Baselines], Baselines]) -> Updated:
    """Apply `change` to the file as it is now, not as it was when this run read it, and write it if it differs.

    Reading, changing and writing are one step for everybody who updates baselines in that folder: runs that end
    together all find their changes in the file, and none is lost.

    Args:
        start: which file, and what to begin with where it does not exist.
        change: gives the new baselines; makes this run's own changes, and no others.

    Raises:
        BaselineError: the file is a link, damaged, cannot be written, or is being written by somebody else for a
            minute. It is as it was then.
    """
    refuse_link(start.path)
    try:
        start.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(start.path.parent):
            refuse_link(start.path)
            before = Baselines.read(start.path, start.metrics) if start.path.exists() else start
            found = Updated(before, change(before))
            if found.wrote:
                found.after.write()
    except OSError as error:
        raise unwritable(start.path, error) from error
    return found
