"""Markdown for a pull request: at most 60 lines whatever the run was.

The verdict comes first; what failed, is open, or moved stands in the open, with since when; everything else is folded.
Whatever comes from a file or a model goes through `markdown_text`, which lets it neither begin a structure nor call
anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_ptq.judge.gates import REFRESH, describe, overall
from pytest_ptq.metrics import Direction, Judgement, LayerError, Limit, Measurement, Verdict
from pytest_ptq.report.layers import why
from pytest_ptq.report.markdown_text import code, folded, rows, safe
from pytest_ptq.report.since import UNJUDGED, Story, key_of, stories
from pytest_ptq.report.terminal import NOTED, figures, seriousness
from pytest_ptq.store.record import QConfigRecord, RunRecord
from pytest_ptq.store.series import SeriesKey

LONGEST = 60
"""Lines. Those of each part below, all of them at their longest, come to no more."""
OPEN_ROWS, SENTENCES, ALL_ROWS, LAYER_ROWS = 10, 5, 8, 5
ERROR = "ERROR"
NOTHING = "nothing was judged"


@dataclass(frozen=True)
class _Row:
    """One number that is shown in the open."""

    result: QConfigRecord
    measurement: Measurement
    judgement: Judgement | None
    story: Story | None


def markdown_report(record: RunRecord, history: Sequence[RunRecord] = (), problems: Sequence[str] = ()) -> str:
    """What a pull request has to say about one run.

    Args:
        record: the run.
        history: other runs in any order; those that are newer do not count.
        problems: what went wrong beside the tests, a sentence each.

    Returns:
        At most 60 lines and 65,536 characters, with a line feed at the end.
    """
    results = sorted(record.results, key=seriousness)
    told = stories(record, history)
    shown = list(_open_rows(record, results, told))
    lines = [
        *_head(record, results, problems),
        *(_table(shown, _several(results)) if shown else _calm(results, told)),
        *_sentences(results, problems),
        *folded("All results" if len(results) > 1 else "The result", _all(results)),
        *_layers(results),
        *folded("Machine and versions", _machine(record)),
    ]
    return "\n".join(lines) + "\n"


def _head(record: RunRecord, results: Sequence[QConfigRecord], problems: Sequence[str]) -> list[str]:
    verdicts = Counter(_verdict(result) for result in results)
    worst = ERROR if problems else next(iter(map(_verdict, results)), NOTHING)
    counts = ", ".join(f"{count} {safe(verdict)}" for verdict, count in verdicts.items()) or "no results"
    of = f"of commit {code(record.commit[:12])}" if record.commit else "of no known commit"
    if record.branch:
        of += f" on {code(record.branch)}"
    told = f": {safe(record.commit_subject, 200)}" if record.commit_subject else ""
    return [f"## pytest-ptq: {worst}", "", f"**{counts}** {of}{told}"]


def _open_rows(record: RunRecord, results: Sequence[QConfigRecord], told: Mapping[SeriesKey, Story]) -> Iterator[_Row]:
    """What did not pass, asks for a new baseline, or moved since the run before; failures come first."""
    for moved in (False, True):
        for result in results:
            for key, measurement, judgement in _values(result):
                story = told.get(key_of(record, result, key))
                if _open(judgement) != moved and (not moved or (story is not None and story.moved)):
                    yield _Row(result, measurement, judgement, story)


def _values(result: QConfigRecord) -> Iterator[tuple[str, Measurement, Judgement | None]]:
    """What was judged, and what is told without a judgement when it moves."""
    for key, judgement in result.judgements.items():
        yield key, judgement.measurement, judgement
    for key in UNJUDGED:
        if key in result.measurements and key not in result.judgements:
            yield key, result.measurements[key], None


def _open(judgement: Judgement | None) -> bool:
    """Whether it is shown even where nothing moved. A failure that somebody expects is not."""
    if judgement is None:
        return False
    return judgement.verdict not in (Verdict.PASS, Verdict.XFAIL) or REFRESH in judgement.reason


def _table(shown: Sequence[_Row], several: bool) -> list[str]:
    """At most 14 lines."""
    titles = ("result", "metric", "verdict", "measured", "limit", "recorded", "since")
    cells = [
        (
            _name(row.result, several),
            safe(row.measurement.metric.title, 60),
            _bold(row.judgement.verdict) if row.judgement else "-",
            safe(describe(row.measurement), 60),
            _limit(row.judgement.limit) if row.judgement else "-",
            safe(_recorded(row.judgement), 40),
            row.story.told() if row.story else "",
        )
        for row in shown
    ]
    return ["", *rows(titles, cells[:OPEN_ROWS]), *_more(len(cells) - OPEN_ROWS, "number")]


def _calm(results: Sequence[QConfigRecord], told: Mapping[SeriesKey, Story]) -> list[str]:
    """Of a run in which no number failed; nothing where that is because there is none."""
    if not results or any(result.errors for result in results):
        return []
    if all(len(story.points) < 2 for story in told.values()):
        return ["", "Nothing failed. There is no earlier run on such a machine to compare with."]
    return ["", "Nothing failed, and nothing moved since the run before."]


def _sentences(results: Sequence[QConfigRecord], problems: Sequence[str]) -> list[str]:
    """Why nothing could be said, and which layer a failure points to; at most 7 lines."""
    found = [f"- **{ERROR}**: {safe(problem)}" for problem in problems]
    several = _several(results)
    for result in results:
        name = _name(result, several)
        found += [f"- {name}: {safe(error)}" for error in result.errors]
        for judgement in result.judgements.values():
            if judgement.verdict in NOTED and judgement.verdict is not Verdict.XFAIL:
                found.append(f"- {name}: {safe(judgement.reason)}")
        found += [f"- {name}: {text}" for text in _worst(result)]
    left = len(found) - SENTENCES
    more = [f"- and {left} more, in the run record"] if left > 0 else []
    return ["", *found[:SENTENCES], *more] if found else []


def _worst(result: QConfigRecord) -> Iterator[str]:
    """The layer that loses most, of a result that fails its accuracy."""
    failed = any(j.verdict is Verdict.FAIL for j in result.judgements.values())
    for layer in sorted(result.worst_layers, key=LayerError.rank)[:1]:
        if failed:
            cause = why(layer)
            yield f"layer {code(layer.name)} loses most" + (f": {safe(cause)}" if cause else "")


def _all(results: Sequence[QConfigRecord]) -> list[str]:
    """At most 11 lines, in a block of 16."""
    titles = ["result", "top-1 % fp32 -> int8", "drop pp / limit", "flips %", "SQNR dB", "MiB fp32 -> int8 (x)"]
    titles += ["ms fp32 / int8", "int8/fp32 [95 % CI] / limit", "verdict"]
    several = _several(results)
    cells = [
        (_name(result, several), *(safe(cell, 60) for cell in figures(result, " ")), safe(_verdict(result)))
        for result in results[:ALL_ROWS]
    ]
    return [*rows(titles, cells), *_more(len(results) - ALL_ROWS, "result")] if cells else []


def _layers(results: Sequence[QConfigRecord]) -> list[str]:
    """The worst layers of the first result that has any; at most 14 lines."""
    looked_at = next((result for result in results if result.worst_layers), None)
    if looked_at is None:
        return []
    worst = sorted(looked_at.worst_layers, key=LayerError.rank)[:LAYER_ROWS]
    titles = ("layer", "kind", "SQNR dB", "alone", "weights", "inputs", "gain in dB if left in fp32")
    cells = [
        (
            code(layer.name),
            safe(layer.kind, 40),
            *map(_db, (layer.sqnr_db, layer.alone_db, layer.weight_db, layer.input_db, layer.gain_db)),
        )
        for layer in worst
    ]
    lines = [f"Of {_name(looked_at, several=True)}, the worst first:", "", *rows(titles, cells)]
    return folded("Layers that lose most", lines)


def _machine(record: RunRecord) -> list[str]:
    """One line."""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    key, cpu = record.machine_key, str(record.machine.get("cpu", "an unknown CPU"))
    said = f"On {safe(cpu, 100)}, key {code(key)}; {safe(versions)}; run {code(record.run_id)}"
    return [f"{said} of {record.time:%Y-%m-%d %H:%M} UTC"]


def _name(result: QConfigRecord, several: bool) -> str:
    name = f"{result.suite}[{result.qconfig}]"
    return code(f"{name} on {result.data}") if several else code(name)


def _several(results: Sequence[QConfigRecord]) -> bool:
    """Whether the kind of data has to be named to tell results apart."""
    return len({result.data for result in results}) > 1


def _verdict(result: QConfigRecord) -> str:
    if result.errors:
        return ERROR
    found = overall(result.judgements.values())
    return found.value if found else "not judged"


def _bold(verdict: Verdict) -> str:
    return verdict.value if verdict in (Verdict.PASS, Verdict.XFAIL) else f"**{verdict.value}**"


def _limit(limit: Limit | None) -> str:
    if limit is None:
        return "-"
    held = "at most" if limit.metric.direction is Direction.LOWER_IS_BETTER else "at least"
    return f"{held} {safe(limit.metric.format(limit.bound), 40)}, {code(limit.source)}"


def _recorded(judgement: Judgement | None) -> str:
    return describe(judgement.recorded) if judgement and judgement.recorded else "-"


def _more(count: int, what: str) -> list[str]:
    """Behind a table, of which it is then the last row."""
    if count <= 0:
        return []
    return [f"| and {count} more {what}{'s' if count > 1 else ''} |"]


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
