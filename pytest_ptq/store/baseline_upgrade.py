"""Older baseline files, brought up to date in memory: one step a schema, each from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_ptq.store.baseline_format import SCHEMA

Tree = dict[str, Any]


def upgraded(tree: Tree) -> Tree:
    """`tree`, valid in its own schema, as this version writes it. The argument is not changed."""
    while tree["schema"] < SCHEMA:
        schema = tree["schema"]
        tree = {**STEPS[schema](tree), "schema": schema + 1}
    return tree


def _from_1(tree: Tree) -> Tree:
    """Leaves out recorded latencies; limits on latency stay, and so does everything else.

    Schema 1 recorded latencies that were measured in a single process. The interval of such a measurement misses what
    varies from process to process, so it is comparable with nothing that is measured today; as a record it would
    raise false alarms. Until latencies are recorded anew, their drift is not judged, and the run says so.
    """
    return {**tree, "data": {kind: _without_latencies(entry) for kind, entry in tree["data"].items()}}


def _without_latencies(entry: Mapping[str, Any]) -> Tree:
    recorded: Tree = {}
    for machine, qconfigs in entry.get("recorded", {}).items():
        kept = {
            name: {key: value for key, value in values.items() if not key.startswith("latency_")}
            for name, values in qconfigs.items()
        }
        kept = {name: values for name, values in kept.items() if values}
        if kept:
            recorded[machine] = kept
    without = {key: value for key, value in entry.items() if key != "recorded"}
    return {**without, "recorded": recorded} if recorded else without


STEPS: Mapping[int, Callable[[Tree], Tree]] = {1: _from_1}
"""The step from each schema to the next."""

NOTES: Mapping[int, str] = {
    1: "upgraded from schema 1 to 2: recorded latencies are left out, they were measured in a single process",
}
"""What an update says of each step."""
