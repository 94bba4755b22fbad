"""What int8 keeps of accuracy in each runtime, and what other engines keep, under the accuracy gate's limit."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from tabulate import tabulate

from benchmarks import ours, ours_runtimes
from benchmarks.accuracy import Measuring
from benchmarks.accuracy_cases import Case, cases
from benchmarks.accuracy_rows import Row
from benchmarks.engines_text import STALE
from benchmarks.goal import HEADS
from benchmarks.rivals import RIVALS
from benchmarks.rivals.rival import Rival
from pytest_ptq.errors import PTQError, UnknownNameError
from pytest_ptq.judge.gates import judge
from pytest_ptq.metrics import ACCURACY_DROP, FLIPS, SQNR, TOP1_FP32, TOP1_INT8, Limit, Measurement, Verdict

DROP_LIMIT = 1.0
"""Points of top-1 that the accuracy gate lets pass, for everybody."""
PRESET = ours_runtimes.QCONFIG
ENGINES: Mapping[str, Rival] = {
    rival.key: rival
    for rival in (*(r for r in ours_runtimes.RIVALS if r.key.startswith("int8")), *RIVALS)
    if rival.key not in ("torch_fx_default", "onnxruntime_entropy", "onnxruntime_percentile")
}
"""Those whose latency is compared; their other settings are in the table of `python -m benchmarks accuracy`."""
BESIDE = {
    ours_runtimes.key("int8", "onnxruntime"): "onnxruntime_minmax",
    ours_runtimes.key("int8", "openvino"): "nncf_openvino",
}
"""Whose SQNR each of ours is to reach."""
KIT = ("mobilenet_v2_kit", "efficientnet_lite0_kit")


def select_cases(globs: Sequence[str] | None) -> list[Case]:
    """The cases that some glob names, all without any, in the table's order. Raises UnknownNameError."""
    known = cases()
    for glob in globs or ():
        if not any(fnmatchcase(case.name, glob) for case in known):
            raise UnknownNameError("case", glob, [case.name for case in known], place="--case")
    return [case for case in known if any(fnmatchcase(case.name, glob) for glob in globs or ["*"])]


def rows(
    chosen: Sequence[Case], engines: Sequence[str], options: argparse.Namespace, found: Mapping[str, str]
) -> list[Row]:
    """A row for each case and engine, this one in torch first; kept ones are not measured again.

    Args:
        chosen: the cases.
        engines: keys of engines; those that have no int8 model have no row.
        options: what `add_cell_options` declares.
        found: versions of the rivals' packages.
    """
    keep, made = options.keep or options.kept_only, []
    wanted = [*([PRESET] if ours.INT8 in engines else []), *(key for key in ENGINES if key in engines)]
    for case in chosen if wanted else ():
        try:
            measuring = Measuring(case, found, keep=keep, measure=not options.kept_only, rivals=ENGINES)
        except PTQError as error:  # no photographs
            made.append(Row(case.name, PRESET, {}, {}, error=str(error)))
            continue
        made += measuring.rows(wanted)
    return made


def section(found: Sequence[Row]) -> str:
    """The table with verdicts, and its goals; empty without rows."""
    if not found:
        return ""
    names = {PRESET: "**int8, this, in torch**", **{key: rival.name for key, rival in ENGINES.items()}}
    lines = [[row.suite, names[row.engine], *_figures(row)] for row in found]
    heads = ["model", "engine", "top-1 fp32 %", "top-1 int8 %", "drop pp", "flips %", "SQNR dB",
             f"limit {DROP_LIMIT:g} pp"]  # fmt: skip
    text = tabulate(lines, heads, "github", disable_numparse=True)
    goals = tabulate(_goals(found, names), HEADS, "github", disable_numparse=True)
    if any(row.stale for row in found):
        text += f"\n\n{STALE}"
    return f"### Accuracy\n\n{text}\n\n### Goals of accuracy\n\n{goals}"


def _figures(row: Row) -> list[str]:
    if row.error:
        return [f"not measured: {row.error}", "", "", "", "", ""]
    values = [f"{row.values[m.key]:.2f}" for m in (TOP1_FP32, TOP1_INT8, ACCURACY_DROP, FLIPS)]
    return [*values, f"{row.values[SQNR.key]:.1f}" + (" *" if row.stale else ""), _verdict(row)]


def _verdict(row: Row) -> str:
    measured = Measurement(ACCURACY_DROP, row.values[ACCURACY_DROP.key], samples=row.images)
    verdict = judge(measured, Limit(ACCURACY_DROP, DROP_LIMIT, "this page")).verdict
    return "pass" if verdict is Verdict.PASS else verdict.name


def _goals(found: Sequence[Row], names: Mapping[str, str]) -> list[list[str]]:
    known = {(row.suite, row.engine): row.values[SQNR.key] for row in found if not row.error}
    lines = []
    for suite in KIT:
        for own, rival in BESIDE.items():
            if (suite, own) in known and (suite, rival) in known:
                asked, value = round(known[suite, rival], 1), round(known[suite, own], 1)
                title = f"{suite}: {names[own].strip('*')} at least as much SQNR as {names[rival]}"
                lines.append([title, f"at least {asked} dB", f"{value} dB", "yes" if value >= asked else "no"])
    return lines
