"""What every preset keeps of a model's accuracy beside what other engines keep, all measured on the same images.

Each row is kept in `.ptq/accuracy`: interrupted, the command goes on where it was, and measures again only what was
run with other sources, versions, weights or images. A rival runs in a process of its own, by the Python that
PTQ_RIVALS_PYTHON names (this one by default); one that fails has a row that says why. The photographs are those of the
folder that PTQ_IMAGENET_KIT names.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.accuracy_cases import KIT_VARIABLE, Case, Loaded, cases
from benchmarks.accuracy_rows import FOLDER, PRESET_SOURCES, Row, measured, sources, store, stored
from benchmarks.accuracy_text import goals, insert, section, to_json
from benchmarks.footer import footer
from benchmarks.rivals import RIVALS
from benchmarks.rivals.process import run, versions
from benchmarks.rivals.rival import Rival
from pytest_ptq.errors import PTQError, UnknownNameError, UsageError
from pytest_ptq.measure.accuracy import collect_logits
from pytest_ptq.measure.machine import describe_machine
from pytest_ptq.qconfig import PRESETS, QConfig

if TYPE_CHECKING:
    from torch import Tensor

COMMAND = "python -m benchmarks accuracy"
PRESETS_HASH = sources(*PRESET_SOURCES)
"""Taken when the code is imported, not when a row is ready: somebody may edit it meanwhile."""


def table(arguments: Sequence[str] = ()) -> str:
    """The tables as Markdown, also written to the files that the arguments name.

    Raises:
        UsageError: a filter that fits nothing, or a file that cannot take the table.
    """
    options = _parser().parse_args(arguments)
    chosen = select(options.only)
    found = versions(RIVALS)
    rows: dict[str, list[Row]] = {}
    parts: list[str] = []
    for case in cases():
        if case.name in chosen:
            try:
                rows[case.name] = _measuring(case, found, options).rows(chosen[case.name])
                parts.append(section(case.name, rows[case.name], {rival.key: rival.name for rival in RIVALS}))
            except PTQError as error:
                parts.append(f"### {case.name}\n\nNot measured: {error}")
    text = "\n\n".join([*parts, goals(rows, RIVALS), _packages(found)])
    if options.json:
        Path(options.json).write_text(to_json(row for each in rows.values() for row in each), encoding="utf-8")
    if options.into:
        insert(Path(options.into), f"{text}\n\n{footer(COMMAND)}")
    return text


def _measuring(case: Case, found: Mapping[str, str], options: argparse.Namespace) -> Measuring:
    keep = options.keep or options.kept_only
    return Measuring(case, found, keep=keep, measure=not options.kept_only, threads=options.threads)


def _packages(found: Mapping[str, str]) -> str:
    rivals = sorted({package for rival in RIVALS for package in rival.packages} & set(found))
    return "Rivals: " + (", ".join(f"{name} {found[name]}" for name in rivals) or "none installed") + "."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        metavar="SUITE[:ENGINE]",
        help="measure and show only these, such as resnet50, mobilenet_v2:best or '*:onnxruntime_*'; repeatable",
    )
    parser.add_argument("--keep", action="store_true", help="show rows of earlier sources, marked, as they are")
    parser.add_argument("--kept-only", action="store_true", help="measure nothing: show what was kept, as --keep does")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of every engine; one a core by default")
    parser.add_argument("--json", metavar="FILE", help="write all rows as JSON too")
    parser.add_argument("--into", metavar="FILE", help="put the tables between the marks of a Markdown file too")
    return parser


def select(only: Sequence[str] | None) -> dict[str, list[str]]:
    """The engines to run by suite, in the table's order. Raises UnknownNameError: a filter that fits nothing."""
    suites, engines = [case.name for case in cases()], [*PRESETS, *(rival.key for rival in RIVALS)]
    chosen: dict[str, set[str]] = {}
    for pattern in only or ["*"]:
        suite, _, engine = pattern.partition(":")
        fitting = [name for name in suites if fnmatchcase(name, suite)]
        if not fitting:
            raise UnknownNameError("suite", suite, suites, place="--only")
        wanted = [name for name in engines if fnmatchcase(name, engine or "*")]
        if not wanted:
            raise UnknownNameError("engine", engine, engines, place="--only")
        for name in fitting:
            chosen.setdefault(name, set()).update(wanted)
    return {name: [e for e in engines if e in chosen[name]] for name in suites if name in chosen}


class Measuring:
    """The rows of one case. Raises PTQError: the model or the images cannot be had.

    Args:
        case: the model and its data.
        found: versions of the rivals' packages.
        keep: take rows of earlier sources as they are.
        measure: measure what was not kept; otherwise its row says that it was not measured.
        threads: threads of every engine; one a core by default.
        folder: where rows are kept.
        rivals: engines with a process of their own, by key; those of the accuracy table by default.
    """

    def __init__(
        self,
        case: Case,
        found: Mapping[str, str],
        *,
        keep: bool = False,
        measure: bool = True,
        threads: int | None = None,
        folder: Path = FOLDER,
        rivals: Mapping[str, Rival] | None = None,
    ) -> None:
        if measure and case.kind == "imagenet" and case.argument is None:
            remedy = f"Let {KIT_VARIABLE} name a folder with images/ and val_map.txt."
            raise UsageError("there are no photographs", place=case.name, remedy=remedy)
        self.case, self.found, self.keep, self.measure, self.folder = case, found, keep, measure, folder
        self.machine = describe_machine(threads)
        self.rivals = {rival.key: rival for rival in RIVALS} if rivals is None else rivals
        if measure:
            self.loaded = Loaded(case)

    def rows(self, engines: Sequence[str]) -> list[Row]:
        """One row an engine, in their order; what is kept is not measured again."""
        with tempfile.TemporaryDirectory(prefix="ptq-rivals-") as name:
            job = Path(name)
            return [
                self._rival(self.rivals[engine], job) if engine in self.rivals else self._preset(PRESETS[engine])
                for engine in engines
            ]

    def _preset(self, qconfig: QConfig) -> Row:
        key = {
            **self._key(),
            "torch": self.machine.torch,
            "qconfig": repr(qconfig),
            "sources": PRESETS_HASH,
        }
        notes: list[str] = []

        def logits() -> Tensor:
            import torch

            torch.set_num_threads(self.machine.threads)
            quantized = self.loaded.run.quantized(qconfig)
            notes.extend(quantized.notes)
            return collect_logits(quantized, self.loaded.batches)[0]

        return self._row(qconfig.name, key, logits, notes)

    def _rival(self, rival: Rival, job: Path) -> Row:
        packages = {name: self.found[name] for name in ("torch", *rival.packages) if name in self.found}
        module = sys.modules[rival.module].__file__
        assert module is not None
        key = {**self._key(), **packages, "sources": sources(Path(module), *rival.sources)}

        def logits() -> Tensor:
            if not any(job.iterdir()):
                self.loaded.write(job, self.machine.threads)
            return run(rival, job, self.found)

        return self._row(rival.key, key, logits, [])

    def _key(self) -> dict[str, str]:
        data = {"data": self.loaded.digest} if self.measure else {}  # nothing is loaded only to be looked at
        return {**data, "isa": self.machine.isa}

    def _row(self, engine: str, key: Mapping[str, str], logits: Callable[[], Tensor], notes: list[str]) -> Row:
        kept = stored(self.case.name, engine, key, self.folder)
        if kept is not None and (self.keep or not kept.stale):
            return kept
        if not self.measure:
            return Row(self.case.name, engine, key, {}, error="not measured")
        start = time.monotonic()
        try:
            row = measured(self.case.name, engine, key, logits(), self.loaded.logits)
            row = replace(row, notes="; ".join(notes))
        except PTQError as error:
            row = Row(self.case.name, engine, key, {}, error=str(error))
        print(f"{self.case.name} {engine}: {time.monotonic() - start:.0f} s {row.error}", file=sys.stderr, flush=True)
        store(row, self.folder)
        return row
