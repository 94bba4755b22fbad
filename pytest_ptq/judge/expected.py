"""Failures that somebody expects, with a reason: strict, so that no mark outlives what it excuses. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_ptq.metrics import Judgement, Verdict

TAKE_OUT = "take the mark out"
"""Stands in the reason of what was expected to fail, and passes."""


@dataclass(frozen=True)
class Expected:
    """A failure that is known: why, and where that was written (`baselines/resnet50.json:12`, `marker`, ...)."""

    reason: str
    source: str


def expect_failure(judgement: Judgement, expected: Expected | None) -> Judgement:
    """`judgement` in the light of what was expected of it.

    A failure becomes XFAIL. A pass becomes a failure, which asks to take the mark out. What is undecided stays so, and
    so does what has no limit: neither is the failure that was expected.
    """
    if expected is None:
        return judgement
    if judgement.verdict is Verdict.FAIL:
        reason = f"expected to fail since {expected.reason} ({expected.source}): {judgement.reason}"
        return replace(judgement, verdict=Verdict.XFAIL, reason=reason)
    if judgement.verdict is Verdict.PASS:
        reason = f"expected to fail since {expected.reason}, and passes: {TAKE_OUT} at {expected.source}"
        return replace(judgement, verdict=Verdict.FAIL, reason=f"{reason}; {judgement.reason}")
    return judgement
