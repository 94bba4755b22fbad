"""The command that runs one test again as it was run."""

from __future__ import annotations

import os
import shlex

import pytest

_NOT_REPEATED = frozenset({"ptq_update_baseline", "ptq_json", "ptq_annotations", "ptq_budget", "ptq_tune"})
"""Options of a run as a whole, which the command for one item does without."""


def reproduce(config: pytest.Config, nodeid: str, *extra: str) -> str:
    """The command that runs one item again with the pytest-ptq options of this run, the suite first."""
    given = {key: value for key, value in vars(config.option).items() if key.startswith("ptq_") and value}
    words = ["pytest"]
    for key in sorted(given, key=lambda key: (key != "ptq_suite", key)):
        if key not in _NOT_REPEATED:
            words += _spelled("--" + key.replace("_", "-"), given[key])
    return shlex.join([*words, *extra, nodeid])


def _spelled(option: str, value: str | bool) -> list[str]:
    if isinstance(value, bool):
        return [option]
    # pytest would take a path that stands alone for a test path.
    return [f"{option}={value}"] if os.sep in value else [option, value]
