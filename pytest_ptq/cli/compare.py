"""`pytest-ptq compare`: what changed between two runs, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from pytest_ptq.cli.app import FAILED
from pytest_ptq.cli.output import commit, day, json_option, measured, say, say_json, table
from pytest_ptq.cli.runs import complete_run, find_record, history_option, run_argument
from pytest_ptq.judge.compare import Comparison, Step, compare, is_judged
from pytest_ptq.judge.intervals import BY_INTERVAL
from pytest_ptq.report.printable import printable
from pytest_ptq.store.diff import ABSOLUTE
from pytest_ptq.store.record import QConfigRecord, RunRecord

HEADERS = ("suite", "qconfig", "metric", "before", "after", "change [95 %]", "")
ORDER = (Step.WORSE, Step.OPEN, Step.BETTER, Step.SAME, Step.UNJUDGED)


@dataclass(frozen=True)
class Row:
    result: QConfigRecord
    found: Comparison


@dataclass(frozen=True)
class Outcome:
    """All that both runs measured, and a sentence for whatever only one of them did."""

    rows: tuple[Row, ...]
    lost: tuple[str, ...]
    """What the later run should have measured and did not."""
    notes: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        """Nothing fails open: what is lost counts, and so does a comparison of nothing."""
        return bool(self.lost) or not self.judged or any(row.found.step is Step.WORSE for row in self.rows)

    @property
    def judged(self) -> bool:
        return any(row.found.step is not Step.UNJUDGED for row in self.rows)


@click.command("compare")
@run_argument
@click.argument("other", metavar="RUN", shell_complete=complete_run)
@click.option("--fail-on-regression", is_flag=True, help="Exit with 1 when anything became worse, or was lost.")
@click.option("--all", "show_all", is_flag=True, help="Show what stayed the same as well.")
@history_option
@json_option
def compare_(run: str, other: str, fail_on_regression: bool, show_all: bool, folder: Path, as_json: bool) -> int:
    """What changed from the first RUN to the second, with intervals, and whether it is more than chance.

    A value is held against the earlier one as a gate holds it against its baseline: by its interval, and with the
    tolerance of its metric. Runs on machines of different keys are shown side by side and not judged.
    """
    before, after = find_record(run, folder), find_record(other, folder)
    outcome = compare_runs(before, after)
    if as_json:
        say_json(_plain(before, after, outcome))
    else:
        _tell(before, after, outcome, show_all)
    return FAILED if fail_on_regression and outcome.regressed else 0


def compare_runs(before: RunRecord, after: RunRecord) -> Outcome:
    """Everything that both runs measured, what changed most seriously first."""
    then, now = ({(r.suite, r.data, r.qconfig): r for r in run.results} for run in (before, after))
    keys = {name: (before.key_of(then[name]), after.key_of(now[name])) for name in then if name in now}
    notes = _differing(keys)
    for names, which in ((then.keys() - now.keys(), "first"), (now.keys() - then.keys(), "second")):
        notes += [
            f"{suite}[{qconfig}] on {data} data is in the {which} run only" for suite, data, qconfig in sorted(names)
        ]
    pairs = [
        (then[name], now[name], key)
        for name in then
        if name in now
        for key in then[name].measurements
        if key in now[name].measurements
    ]
    # What is exact cannot be wrong by chance.
    questions = sum(key in BY_INTERVAL and _judged(a, b, key) for a, b, key in pairs)
    rows = [
        Row(b, compare(a.measurements[key], b.measurements[key], judged=judged, comparisons=questions))
        for a, b, key in pairs
        for judged in [before.key_of(a) == after.key_of(b) and _judged(a, b, key)]
    ]
    rows.sort(key=lambda row: ORDER.index(row.found.step))
    if not rows:
        notes.append("the runs have nothing in common")
    lost = [sentence for name in then if name in now for sentence in _lost(then[name], now[name])]
    return Outcome(tuple(rows), tuple(lost), tuple(notes))


def _differing(keys: Mapping[tuple[str, str, str], tuple[str, str]]) -> list[str]:
    """A sentence for each pair of machine keys that differ, with what was measured on them unless that is all."""
    found: dict[tuple[str, str], list[str]] = {}
    for (suite, _, qconfig), pair in keys.items():
        if pair[0] != pair[1]:
            found.setdefault(pair, []).append(f"{suite}[{qconfig}]")
    whole = len(found) == 1 and sum(map(len, found.values())) == len(keys)
    return [
        f"the machines differ ({one} and {other}): {'nothing' if whole else ', '.join(names)} is "
        f"{'judged' if whole else 'not judged'}"
        for (one, other), names in found.items()
    ]


def _judged(before: QConfigRecord, after: QConfigRecord, key: str) -> bool:
    return is_judged(key, limited=key in before.judgements or key in after.judgements)


def _lost(before: QConfigRecord, after: QConfigRecord) -> Iterator[str]:
    name = f"{after.suite}[{after.qconfig}]"
    for key, judgement in before.judgements.items():
        if key not in after.measurements and key in before.measurements:
            yield f"{name}: {judgement.measurement.metric.title} was judged before and is not measured now"
    yield from (f"{name}: {error}" for error in after.errors)


def _tell(before: RunRecord, after: RunRecord, outcome: Outcome, show_all: bool) -> None:
    for which, run in (("before", before), ("after", after)):
        parts = (run.run_id, day(run.time), commit(run.commit), run.commit_subject)
        say(printable(f"{which:7} " + "  ".join(part for part in parts if part)))
    say()
    hidden = () if show_all or not outcome.judged else (Step.SAME, Step.UNJUDGED)
    shown = [row for row in outcome.rows if row.found.step not in hidden]
    if shown:
        say(table(HEADERS, [_cells(row) for row in shown], right=(5,)))
        say()
    left = len(outcome.rows) - len(shown)
    if left:
        say(f"{left} value{'s' if left > 1 else ''} stayed within tolerance or are not judged (--all shows them)")
    reasons = [f"{row.result.suite}[{row.result.qconfig}]: {row.found.reason}" for row in shown if row.found.reason]
    for sentence in (*reasons, *outcome.lost, *outcome.notes):
        say(printable(sentence))


def _cells(row: Row) -> Sequence[str]:
    found = row.found
    names = (row.result.suite, row.result.qconfig, found.after.metric.title)
    return (*names, measured(found.before), measured(found.after), change(found), found.step.value)


def change(found: Comparison) -> str:
    """`+25.0 % [24.1, 25.9]`, or `+0.30 pp`."""
    metric = found.after.metric
    if not found.relative:
        unit = ABSOLUTE.get(metric.unit, metric.unit)
        return f"{found.delta:+.{metric.digits}f} {unit}".rstrip()
    text = f"{100 * found.delta:+.1f} %"
    if found.low is None or found.high is None:
        return text
    return f"{text} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _plain(before: RunRecord, after: RunRecord, outcome: Outcome) -> dict[str, object]:
    rows = [
        {
            "suite": row.result.suite,
            "data": row.result.data,
            "qconfig": row.result.qconfig,
            "metric": row.found.after.metric.key,
            "before": row.found.before.value,
            "after": row.found.after.value,
            "delta": row.found.delta,
            "delta_is_share": row.found.relative,
            "low": row.found.low,
            "high": row.found.high,
            "step": row.found.step.name.lower(),
            "reason": row.found.reason,
        }
        for row in outcome.rows
    ]
    head = {"before": before.run_id, "after": after.run_id, "regressed": outcome.regressed}
    return {**head, "rows": rows, "lost": list(outcome.lost), "notes": list(outcome.notes)}
