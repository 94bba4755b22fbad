"""How often the gates are wrong: false alarms, missed regressions, coverage of intervals, and what a judgement costs.

The pools of timed processes take about an hour to collect and are kept in `.ptq/gates`; interrupted, it goes on where
it was. Nothing else may run meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tabulate import tabulate

from benchmarks import gates_accuracy, gates_coverage
from benchmarks.gates_judgements import FAR, Count, aa, injected, rival_aa, rival_injected, truth
from benchmarks.gates_pool import PACE, SUITE, collect, models, pool
from benchmarks.gates_worker import EXTRA, FP32_LAYER, INT8, ONE_THREAD
from pytest_ptq.measure.latency import PROTOCOL, Latency
from pytest_ptq.measure.latency_measurements import to_measurements
from pytest_ptq.measure.pairs import PACE as GATE_PACE
from pytest_ptq.measure.pairs import ProcessTimes
from pytest_ptq.measure.processes import Job
from pytest_ptq.metrics import LATENCY_RATIO

SIZES: Mapping[str, int] = {"idle": 135, "inject": 120, "bursts": 190, "busy": 15}
"""Processes in each pool."""


def table() -> str:
    """All of it as Markdown."""
    collect("idle", SIZES["idle"])
    collect("inject", SIZES["inject"], inject=True)
    collect("bursts", SIZES["bursts"], neighbour="bursts")
    collect("busy", SIZES["busy"], neighbour="a busy core")
    quiet = pool("idle") + pool("inject")
    limit = truth(quiet) * (1 + FAR)
    sections: list[tuple[str, Callable[[], str]]] = [
        ("Nothing changed: alarms", lambda: _alarms(quiet, limit)),
        ("Slower on purpose: what is caught", lambda: _caught(limit)),
        ("Do 95 % intervals hold the truth 95 % of the time?", gates_coverage.table),
        ("Accuracy lost on purpose", gates_accuracy.table),
        ("What a judgement costs", _cost),
    ]
    return "\n\n".join([_intro(quiet, limit), *(f"## {title}\n\n{text()}" for title, text in sections)])


def _intro(quiet: list[ProcessTimes], limit: float) -> str:
    beside = len(pool("bursts"))
    return (
        f"Suite {SUITE}, 224 x 224, two threads; {len(quiet)} processes on an idle machine and {beside} beside a "
        f"neighbour, {PACE.budget_s:g} s of pairs for each variant in each. int8/fp32 is {truth(quiet):.3f} over all "
        f"idle processes; the limit that is judged by stands {100 * FAR:g} % above it, at {limit:.3f}. A judgement "
        f"takes {PROTOCOL.processes} processes, and {PROTOCOL.extension} more when they leave it open."
    )


def _alarms(quiet: list[ProcessTimes], limit: float) -> str:
    rows = []
    for name, found in (("idle", quiet), ("0.5 s of every 2.5 s", pool("bursts")), ("always", pool("busy"))):
        counts = aa(found, limit)
        total = sum(counts.values(), Count())
        rows += [[name, question, *count.cells()] for question, count in counts.items()]
        rows.append([name, "**together**", *total.cells()])
        rows.append([name, "pytest-benchmark, mean:10%", *rival_aa(found).cells()])
    return tabulate(
        rows, ["neighbour", "question", "judgements", "alarms", "[95 %]", "inconclusive", "second looks"], "github"
    )


def _caught(limit: float) -> str:
    found = pool("inject")
    reference = truth(found)
    rows = []
    for name in (*EXTRA, ONE_THREAD, FP32_LAYER):
        by_limit, by_drift = injected(found, name, limit)
        rows.append(
            [
                name,
                f"{100 * (truth(found, name) / reference - 1):+.1f} %",
                by_limit.judged,
                by_limit.share("fail"),
                by_limit.share("inconclusive"),
                by_drift.share("fail"),
                by_drift.share("inconclusive"),
                rival_injected(found, name).share("fail"),
            ]
        )
    heads = ["change", "measured", "judgements", "limit: caught", "open", "drift: caught", "open", "mean:10%: caught"]
    return tabulate(rows, heads, "github")


def _cost() -> str:
    rows = []
    for names in ([INT8], [INT8, "int8 too"]):
        stored = models(inject=False)
        stored["int8 too"] = stored[INT8]
        latency = Latency(Job(stored, (1, 3, 224, 224), 2, GATE_PACE))
        start = time.perf_counter()
        ratio = to_measurements(latency.samples(INT8, names))[LATENCY_RATIO.key]
        seconds = time.perf_counter() - start
        assert ratio.low is not None
        assert ratio.high is not None
        interval = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
        rows.append([len(names), f"{seconds:.1f}", f"{seconds / len(names):.1f}", interval])
    return tabulate(rows, ["qconfigs", "s", "s a judgement", "int8/fp32"], "github")
