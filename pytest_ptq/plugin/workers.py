"""Under pytest-xdist: what belongs to one suite goes to one worker, so that nothing is quantized twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from pytest_ptq.plugin.parametrize import selection_of
from pytest_ptq.plugin.selection import Selection

MARK = "xdist_group"


def group(items: Iterable[pytest.Item]) -> None:
    """Mark each item that is about a suite with the suite and its data, unless somebody has grouped it already."""
    for item in items:
        selection = selection_of(item)
        if selection is not None and item.get_closest_marker(MARK) is None:
            item.add_marker(pytest.mark.xdist_group(_group_of(selection)))


def _group_of(selection: Selection) -> str:
    return f"ptq-{selection.suite.name}-{selection.kind}"


def scheduler(config: pytest.Config, log: Any, selections: Sequence[Selection]) -> Any:
    """Who runs what, where nobody says so with `--dist`, or says `loadgroup`: a suite's gates stay on one worker.

    pytest-xdist 3.8 writes an item's group into a field that pytest 9.2 does not read, so that `loadgroup` keeps
    nothing together by marks there; ids tell which gates are a suite's in any case.
    """
    said = getattr(config.known_args_namespace, "dist", "no") != "no" or getattr(config.option, "distload", False)
    if not selections or config.option.dist != ("loadgroup" if said else "load"):
        return None
    from xdist.scheduler import LoadGroupScheduling

    groups = {f"{selection.nodeid}::": _group_of(selection) for selection in selections}

    class SuiteScheduling(LoadGroupScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            own = next((group for start, group in groups.items() if nodeid.startswith(start)), None)
            return own if own is not None else str(super()._split_scope(nodeid))

    return SuiteScheduling(config, log)


def item_id(item: pytest.Item) -> str:
    """The id by which a person can ask for an item: pytest-xdist appends its groups on a worker."""
    names = {str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")) for mark in item.iter_markers(MARK)}
    return item.nodeid.removesuffix(f"@{'_'.join(sorted(names))}") if names else item.nodeid
