"""With which kernels the models were timed: told by the processes that timed them, for it is what ran there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_ptq.metrics import TIMED_BY, TIMED_NOT_NATIVE

Told = Mapping[str, str]


def kernels_of(models: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """By name: kernels and caller of each deployed model (`native program`), and why they are not the compiled ones.

    What is no deployed model tells nothing: another runtime's session, somebody else's module.
    """
    deployed = {name: model for name, model in models.items() if hasattr(model, "kernels") and hasattr(model, "caller")}
    kernels = {name: f"{model.kernels} {model.caller}" for name, model in deployed.items()}
    reasons = {name: str(getattr(model, "not_native", "")) for name, model in deployed.items()}
    return kernels, {name: why for name, why in reasons.items() if why}


def timed_by(int8: str, fp32: str, processes: Iterable[tuple[Told, Told]]) -> dict[str, str]:
    """Details of a latency: kernels of int8 and of fp32, by these names, and why they are not the compiled ones.

    processes: what `kernels_of` gave in each. Where they differ, all of it is told: a compiler may come or go.
    """
    told = list(processes)
    found: dict[str, str] = {}
    for precision, name in (("int8", int8), ("fp32", fp32)):
        for place, key in enumerate((TIMED_BY[precision], TIMED_NOT_NATIVE[precision])):
            said = " or ".join(dict.fromkeys(one[place][name] for one in told if name in one[place]))
            if said:
                found[key] = said
    return found
