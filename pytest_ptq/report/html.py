"""The HTML report: one file that holds all it needs, and opens without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_ptq import __version__
from pytest_ptq import metrics as m
from pytest_ptq.errors import StoreError
from pytest_ptq.metrics import Metric
from pytest_ptq.report.page import payload
from pytest_ptq.report.page.findings import findings, newest_change
from pytest_ptq.report.page.history import Line, Summary, lines, summarize
from pytest_ptq.report.page.latency import Spot, Spread, ratio_of, spots, spread
from pytest_ptq.report.page.layers import layers_of
from pytest_ptq.report.page.library import chart_library, environment, library_versions, source_hash
from pytest_ptq.report.page.rows import SIGNS, WORDS, Row, columns, counted, headline, matrix
from pytest_ptq.report.page.runs import RowKey, Run, metrics_of, named, newest_runs
from pytest_ptq.report.page.specs import SPECS
from pytest_ptq.report.printable import printable
from pytest_ptq.report.where import ran
from pytest_ptq.store.record import RunRecord

SCRIPTS = ("charts.js", "page.js")
STYLE = "page.css"
SHOWN_ROWS = 4
"""Rows whose pairs and layers are in the open; the others are folded away."""


@dataclass(frozen=True)
class Fold:
    """Figures that are shown, or with a `name`, that are folded away under it."""

    name: str
    figures: tuple[Any, ...]


@dataclass(frozen=True)
class Figure:
    """A chart and the text that stands for it. `chart` is the id of its data; `content` what its template shows."""

    chart: str
    row: RowKey
    content: Any


@dataclass(frozen=True)
class HistoryFigure:
    """One metric of one suite on one kind of data, with a summary of each series."""

    chart: str
    suite: str
    data: str
    metric: Metric
    judged: bool
    still: bool
    """Nothing in it ever moved or failed."""
    summaries: tuple[Summary, ...]


def html_report(records: Sequence[RunRecord], *, title: str = "Quantization report") -> str:
    """The page of `records`, in any order: verdicts of the newest runs, and the history of all of them.

    Raises:
        InstallationError: a package of the extra `report` is missing.
        StoreError: there are no records.
    """
    if not records:
        raise StoreError("there is no run to report on", remedy="Run a suite first: pytest --ptq-suite resnet50.")
    env, library = environment(), chart_library()
    runs = newest_runs(records)
    page = _Page(runs)
    scripts = [library, *(_source(name) for name in SCRIPTS)]
    style = _source(STYLE)
    return env.get_template("page.html.j2").render(
        title=printable(title),
        policy=_policy(scripts, style),
        scripts=scripts,
        style=style,
        data=payload.as_script(page.data()),
        versions=library_versions(),
        version=__version__,
        signs=SIGNS,
        words=WORDS,
        total=len({record.run_id for record in records}),
        **page.context(),
    )


class _Page:
    """Everything that the templates are given, worked out once."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self.records = records
        self.metrics = metrics_of(records)
        self.runs = {record.run_id: named(record) for record in records}
        self.rows = matrix(records)
        self.lines = lines(records, self.metrics)
        self.layers = layers_of(records, newest_change(self.lines))
        self.charts: dict[str, Any] = {}
        self.shared: list[list[int]] = []
        self.order = {record.run_id: index for index, record in enumerate(records)}
        self.rank = {row.key: index for index, row in enumerate(self.rows)}
        self.told = [row.key for row in self.rows if row.current and row.result.pairs]
        self.layers.sort(key=lambda found: (not found.fallen, self.rank[found.row]))
        fallen = [found.row for found in self.layers if found.fallen]
        self.with_layers = (fallen or [found.row for found in self.layers])[:SHOWN_ROWS]
        self.history = list(self._history())
        self.scatters = list(self._scatters())
        self.ratios = list(self._ratios())
        self.bars = list(self._bars())

    def context(self) -> dict[str, Any]:
        verdict, sentence = headline(self.rows)
        newest = self.records[-1]
        current = {row.key.machine for row in self.rows if row.current}
        return {
            "verdict": verdict,
            "sentence": sentence,
            "newest": named(newest),
            "machine": printable(newest.machine_key),
            "counts": counted(self.rows),
            "rows": self.rows,
            "columns": columns(self.rows, self.metrics),
            "findings": findings(self.rows, self.lines, self.layers, self.runs),
            "history_folds": _folded(self.history, lambda figure: not figure.still, "that never moved"),
            "scatters": _folded(self.scatters, lambda figure: figure[2] in current, "on other kinds of machines"),
            "ratios": _folded(self.ratios, lambda figure: figure.row in self.told[:SHOWN_ROWS], "of other rows"),
            "bars": _folded(self.bars, lambda figure: figure.row in self.with_layers, "of other rows"),
            "environments": _environments(self.records),
            "shown_runs": len(self.records),
            "choices": self._choices(),
            "anchors": {(found.suite, found.data, found.metric.key): found.chart for found in self.history},
            "several_data": len({row.key.data for row in self.rows}) > 1,
            "several_machines": len({row.key.machine for row in self.rows}) > 1,
        }

    def data(self) -> dict[str, Any]:
        machines = [printable(record.machine_key) for record in self.records]
        return {
            "runs": payload.run_list([self.runs[record.run_id] for record in self.records], machines),
            "shared": self.shared,
            "charts": self.charts,
            "specs": SPECS,
        }

    def _choices(self) -> dict[str, list[tuple[str, str]]]:
        """What each filter offers: value and text."""
        keys = [row.key for row in self.rows]
        return {
            "suite": [(name, printable(name)) for name in sorted({key.suite for key in keys})],
            "qconfig": [(name, printable(name)) for name in sorted({key.qconfig for key in keys})],
            "metric": [(metric.key, printable(metric.title)) for metric in self.metrics.values()],
            "machine": [(name, printable(name)) for name in sorted({key.machine for key in keys})],
        }

    def _add(self, chart: dict[str, Any]) -> str:
        name = f"chart-{len(self.charts)}"
        self.charts[name] = chart
        return name

    def _history(self) -> Iterator[HistoryFigure]:
        groups: dict[tuple[str, str, str], list[Line]] = {}
        for line in self.lines:
            groups.setdefault((line.key.suite, line.key.data, line.key.metric), []).append(line)
        metrics = list(self.metrics)
        first: dict[tuple[str, str], int] = {}
        for row, rank in self.rank.items():
            first.setdefault((row.suite, row.data), rank)
        ordered = sorted(groups.items(), key=lambda item: (first[item[0][:2]], metrics.index(item[0][2])))
        for (suite, data, metric), found in ordered:
            if max(len(line.points) for line in found) < 2:
                continue
            yield HistoryFigure(
                chart=self._add(payload.history_chart(found, self.order, self.shared)),
                suite=suite,
                data=data,
                metric=self.metrics[metric],
                judged=any(line.judged for line in found) or metric == m.SQNR.key,
                still=all(line.still for line in found),
                summaries=tuple(summarize(line, self.runs) for line in found),
            )

    def _scatters(self) -> Iterator[tuple[str, str, str, list[Spot]]]:
        for (data, machine), found in spots(self.rows).items():
            yield self._add(payload.scatter_chart(found)), data, machine, found

    def _ratios(self) -> Iterator[Figure]:
        for row in self.rows:
            found = spread(row.result.pairs)
            if found:
                yield Figure(self._add(_ratios_data(row, found)), row.key, found)

    def _bars(self) -> Iterator[Figure]:
        for found in self.layers:
            if found.drawn:
                yield Figure(self._add(payload.layers_chart(found)), found.row, found)


def _folded(figures: Sequence[Any], shown: Callable[[Any], bool], name: str) -> list[Fold]:
    """In the open what is `shown`, or everything when that is nothing; the rest under `name`."""
    first = tuple(figure for figure in figures if shown(figure)) or tuple(figures)
    rest = tuple(figure for figure in figures if figure not in first)
    return [fold for fold in (Fold("", first), Fold(name, rest)) if fold.figures]


def _ratios_data(row: Row, found: list[Spread]) -> dict[str, Any]:
    ratio = ratio_of(row.result.measurements)
    judged = row.result.judgements.get(m.LATENCY_RATIO.key)
    ends = None if ratio is None or ratio.low is None or ratio.high is None else (ratio.low, ratio.high)
    limit = judged.limit.bound if judged and judged.limit else None
    return payload.ratios_chart(row.result.pairs, found, ends, limit)


def _environments(records: Sequence[RunRecord]) -> list[tuple[str, Run, int, list[tuple[str, str]]]]:
    """Each kind of machine: its newest run, how many there are, and what that run said of itself; newest first."""
    newest: dict[str, RunRecord] = {}
    count: dict[str, int] = {}
    for record in records:
        newest[record.machine_key] = record
        count[record.machine_key] = count.get(record.machine_key, 0) + 1
    ordered = sorted(newest.values(), key=lambda record: record.time, reverse=True)
    return [(r.machine_key, named(r), count[r.machine_key], _facts(r)) for r in ordered]


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    machine = [(name.replace("_", " "), str(value)) for name, value in record.machine.items() if name != "key"]
    said = {name for name, _ in machine}
    versions = [(name, value) for name, value in record.versions.items() if name not in said]
    return [(printable(name), printable(value)) for name, value in (*machine, *ran(record), *versions)]


def _source(name: str) -> str:
    text, _, _ = environment().loader.get_source(environment(), name)  # type: ignore[union-attr]  # it has one
    return text


def _policy(scripts: Sequence[str], style: str) -> str:
    """What the page may do: run these scripts and this style, and reach nothing at all."""
    allowed = " ".join(source_hash(text) for text in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {source_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
