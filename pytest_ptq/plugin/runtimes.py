"""`--ptq-runtime`: where int8 models run, and what has to be there for it. No runtime is imported to find out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_ptq.errors import UsageError
from pytest_ptq.qconfig import FASTEST, RUNTIMES, QConfig, check_runtimes
from pytest_ptq.runtimes import check_installed, find_runtime

if TYPE_CHECKING:
    from pytest_ptq.plugin.options import Settings

OPTION = "--ptq-runtime"
HELD = ("torch", "openvino")
"""Runtimes whose kernels `--ptq-isa` holds back: both ask oneDNN, and OpenVINO's own kernels follow it."""


def runtimes_of(names: tuple[str, ...], *, given: bool) -> tuple[str, ...]:
    """What `--ptq-runtime` or its ini key names; empty where nobody said anything. Raises UnknownNameError."""
    if not names and given:
        raise UsageError(f"{OPTION} names no runtime", remedy=f"Known: {', '.join((*RUNTIMES, 'all', FASTEST))}.")
    return check_runtimes(names, OPTION) if names else ()


def check_placed(qconfigs: Iterable[QConfig], settings: Settings) -> None:
    """Make sure that each of `qconfigs` can be run where it says, before anything is measured.

    Raises:
        InstallationError: packages of a runtime are missing; gives the command that installs them.
        UsageError: `--ptq-isa` cannot hold the runtime back, or `--ptq-tune` has no one runtime to tune for.
    """
    places = tuple(dict.fromkeys(qconfig.runtime for qconfig in qconfigs))
    asked = {name for place in places for name in (RUNTIMES if place == FASTEST else (place,))}
    check_installed(find_runtime(name) for name in RUNTIMES if name in asked)
    for place in places:
        _check_held(place, settings)
        if settings.tune and place == FASTEST:
            message = "the fastest runtime is not known before an int8 model is chosen"
            raise UsageError(message, place="--ptq-tune", remedy=f"Name one: {OPTION} {', '.join(RUNTIMES)}.")


def _check_held(place: str, settings: Settings) -> None:
    if settings.isa is None or place in HELD:
        return
    if place == FASTEST:
        raise UsageError(
            f"--ptq-isa {settings.isa}: the fastest runtime is found by latency, which would be that of no CPU",
            remedy=f"Name one: {OPTION} {' or '.join(HELD)}.",
        )
    raise UsageError(
        f"--ptq-isa {settings.isa}: {find_runtime(place).title} goes by the CPU alone and cannot be held to less",
        remedy=f"{', '.join(HELD)} can: leave {place} out of {OPTION}.",
    )
