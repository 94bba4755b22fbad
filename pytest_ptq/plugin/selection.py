"""Which suites this session runs, on which data and with which qconfigs, and which paths pytest collects for them."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pytest_ptq.errors import UnknownNameError, UsageError
from pytest_ptq.measure.custom import MetricSource, check_table, find
from pytest_ptq.metrics import Metric
from pytest_ptq.own_int8 import with_own
from pytest_ptq.plugin.options import Settings, project_root
from pytest_ptq.plugin.runtimes import check_placed
from pytest_ptq.qconfig import ALIASES, QConfig, base_name, get_qconfig, in_runtimes
from pytest_ptq.suite import Suite, Variant, list_suites, load_suite, packaged_suites


@dataclass(frozen=True)
class Tables:
    """What the hooks of `conftest.py` files registered, by name."""

    datasets: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    qconfigs: Mapping[str, QConfig] = field(default_factory=dict)
    metrics: Mapping[str, MetricSource] = field(default_factory=dict)

    @cached_property
    def known_metrics(self) -> Mapping[str, Metric]:
        """All that may have a limit, by key. Raises UsageError for what cannot be a metric."""
        return check_table(self.metrics)


@dataclass(frozen=True)
class Selection:
    """One suite as this session runs it.

    Args:
        suite: with its qconfigs resolved, each once.
        path: the file that declares it; None for a model that a test of the user's brings along.
        nodeid: what test ids start with.
        kind: the kind of data.
        argument: what stands behind `=` in `--ptq-data`.
        qconfigs: those of the suite in each runtime that they are to run in, cut down to what `--ptq-qconfig` leaves,
            perhaps none.
    """

    suite: Suite
    path: Path | None
    nodeid: str
    kind: str
    argument: str | None
    qconfigs: tuple[QConfig, ...]

    def qconfig(self, name: str) -> QConfig:
        return next(qconfig for qconfig in self.qconfigs if qconfig.name == name)


def gather_tables(config: pytest.Config) -> Tables:
    """Ask the hooks; an earlier answer (from the nearer conftest) wins over a later one. Raises UsageError."""

    def merged(answers: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for answer in answers:
            table = {**(answer or {}), **table}
        return table

    tables = Tables(
        datasets=merged(config.hook.pytest_ptq_register_datasets(config=config)),
        models=merged(config.hook.pytest_ptq_register_models(config=config)),
        qconfigs=merged(config.hook.pytest_ptq_register_qconfigs(config=config)),
        metrics=merged(config.hook.pytest_ptq_register_metrics(config=config)),
    )
    check_table(tables.metrics)
    return tables


def search_folders(config: pytest.Config) -> tuple[Path, ...]:
    """Where suites are looked up by name, the project's own first."""
    return tuple(dict.fromkeys((project_root(config) / "suites", packaged_suites())))


def select(config: pytest.Config, settings: Settings, tables: Tables, name: str, data: str | None = None) -> Selection:
    """The suite called `name`, or in the file `name`; `data` replaces `--ptq-data`.

    Raises UnknownNameError or SuiteError.
    """
    search = search_folders(config)
    known = list_suites(search)
    path = known[name] if name in known else _absolute(config.invocation_params.dir, name)
    suite = load_suite(name if name in known or _is_bare(name) else path, search)
    suite = replace(suite, variants=_variants(suite, tables))
    find(suite.metrics, tables.metrics, f"suite {suite.name}")
    kind, argument = _data(data or settings.data, suite)
    suite = replace(suite, qconfigs=tuple(get_qconfig(qconfig, tables.qconfigs) for qconfig in suite.qconfigs))
    chosen = wanted(placed(suite, settings), settings)
    check_placed(chosen, settings)
    return Selection(
        suite=suite,
        path=path,
        nodeid=_nodeid(config, path),
        kind=kind,
        argument=argument,
        qconfigs=chosen,
    )


def placed(suite: Suite, settings: Settings, runtimes: Sequence[str] = ()) -> tuple[QConfig, ...]:
    """Each qconfig of a resolved suite in each runtime: in `runtimes`, else `--ptq-runtime`, else the suite's own.

    Behind them the models that the suite brings, each where it runs.
    """
    known = [q for q in suite.qconfigs if isinstance(q, QConfig)]
    here = in_runtimes(known, runtimes or settings.runtimes or suite.runtimes)
    return with_own(here, suite.int8, f"suite {suite.name}")


def wanted(qconfigs: Iterable[QConfig], settings: Settings) -> tuple[QConfig, ...]:
    """What `--ptq-qconfig` leaves of them."""
    return tuple(q for q in qconfigs if _wanted(q.name, settings.qconfigs))


def select_all(config: pytest.Config, settings: Settings, tables: Tables) -> tuple[Selection, ...]:
    """The suites of `--ptq-suite`. Raises UnknownNameError also for a qconfig that no suite has."""
    selections = tuple(select(config, settings, tables, name) for name in settings.suites)
    known = [q.name for selection in selections for q in placed(selection.suite, settings)]
    for pattern in settings.qconfigs if selections else ():
        if not any(_wanted(name, (pattern,)) for name in known):
            _refuse(pattern, known)
    return selections


def collection_args(given: Sequence[str], named: bool, selections: Sequence[Selection], base: Path) -> list[str]:
    """What pytest collects: the paths a person named, and each suite's file unless such a path points into it.

    Args:
        given: pytest's own choice of paths and ids.
        named: True when a person named them; testpaths and the working folder do not count beside a suite.
        selections: the suites.
        base: the folder that relative paths are meant from.
    """
    files = {selection.nodeid: selection.path for selection in selections if selection.path is not None}
    args: list[str] = []
    covered: set[Path] = set()
    for arg in given if named else ():
        text, separator, test = arg.partition("::")
        path = _absolute(base, text)
        if text in files and not path.exists():  # the id of a suite that lies elsewhere
            path = files[text]
        if path in files.values():
            covered.add(path)
            arg = f"{path}{separator}{test}"
        args.append(arg)
    return args + [str(path) for path in files.values() if path not in covered]


def _refuse(pattern: str, known: Sequence[str]) -> None:
    """Raises UsageError for a qconfig that only runs elsewhere, UnknownNameError for any other that there is not."""
    base = base_name(pattern)
    if base != pattern and any(_wanted(name, (base,)) for name in known):
        remedy = f"Add --ptq-runtime {pattern.removeprefix(f'{base}-')}."
        raise UsageError(f"no qconfig {pattern!r} is run", place="--ptq-qconfig", remedy=remedy)
    raise UnknownNameError("qconfig", pattern, known, place="--ptq-qconfig")


def _absolute(base: Path, name: str) -> Path:
    # As pytest does it: `..` is taken out, links are not followed.
    return Path(os.path.abspath(base / Path(name).expanduser()))  # noqa: PTH100


def _is_bare(name: str) -> bool:
    return not name.endswith(".py") and len(Path(name).parts) == 1


def _variants(suite: Suite, tables: Tables) -> dict[str, Variant]:
    default = next(iter(suite.variants.values()))
    # The suite's own kinds stay first: the first one is the default.
    added = {
        kind: Variant(model=tables.models.get(kind, default.model), data=source)
        for kind, source in tables.datasets.items()
        if kind not in suite.variants
    }
    return {**suite.variants, **added}


def _data(spec: str | None, suite: Suite) -> tuple[str, str | None]:
    if spec is None:
        return next(iter(suite.variants)), None
    from pytest_ptq.sources import parse_data_spec

    kind, argument = parse_data_spec(spec, extra=suite.variants)
    if kind not in suite.variants:
        raise UnknownNameError("kind of data", kind, suite.variants, place=f"suite {suite.name}")
    return kind, argument


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    """By the whole name, and by what it is without its runtime."""
    known = (name, base_name(name))
    return not patterns or any(fnmatch.fnmatchcase(n, ALIASES.get(p, p)) for p in patterns for n in known)


def _nodeid(config: pytest.Config, path: Path) -> str:
    """Short and the same on every machine: relative to the root folder, `suites/x.py` for a packaged suite."""
    if path.parent == packaged_suites():
        return f"suites/{path.name}"
    root = project_root(config)
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return f"{path.parent.name}/{path.name}".lstrip("/")
