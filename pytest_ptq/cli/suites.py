"""Arguments that name a suite and say how it is run, with completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from pytest_ptq.errors import PTQError, UsageError
from pytest_ptq.report.printable import printable
from pytest_ptq.suite import Suite, list_suites, load_suite, packaged_suites

if TYPE_CHECKING:
    from pytest_ptq.runner import SuiteRun

F = TypeVar("F", bound=Callable[..., Any])

CACHE = Path(".pytest_cache") / "d" / "ptq-calibration"
"""Where a test run in the same folder keeps its statistics."""


def search() -> tuple[Path, ...]:
    """Folders in which suites are looked for: the project's own, then those that come with the package."""
    return Path("suites").absolute(), packaged_suites()


def complete_suite(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in list_suites(search()) if name.startswith(begun)]


def suite_argument(command: F) -> F:
    return click.argument("suite", metavar="SUITE", shell_complete=complete_suite)(command)


def run_options(command: F) -> F:
    """How a suite is run: `--qconfig --data --weights --threads`."""
    options = (
        click.option("--qconfig", metavar="NAME", default="x86", show_default=True, help="How it is quantized."),
        click.option("--data", metavar="SPEC", help="embedded, imagenet=DIR, ... (default: the suite's first)."),
        click.option("--weights", metavar="FILE", type=Path, help="State dict instead of the suite's own."),
        click.option("--threads", metavar="N", type=click.IntRange(1), help="Default: one for each core."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def suite_run(name: str, data: str | None, weights: Path | None, threads: int | None) -> SuiteRun:
    """The run that such options ask for. Raises PTQError; imports torch when nothing is wrong with them."""
    suite = load_suite(name, search())
    kind, argument = _data(data, suite)
    if weights is not None and not weights.is_file():
        raise UsageError("there is no such file", place=f"--weights {weights}")
    from pytest_ptq.runner import SuiteRun

    cache = CACHE if CACHE.is_dir() else None
    return SuiteRun(suite, kind, argument, weights, threads, bar, cache=cache)


def described() -> Iterator[tuple[str, Suite | str]]:
    """Each suite by name, or a sentence on why it cannot be loaded."""
    for name, path in list_suites(search()).items():
        try:
            yield name, load_suite(path, ())
        except PTQError as error:
            yield name, printable(str(error))


def _data(spec: str | None, suite: Suite) -> tuple[str | None, str | None]:
    if spec is None:
        return None, None
    from pytest_ptq.sources.spec import parse_data_spec

    return parse_data_spec(spec, extra=suite.variants, option="--data")


def bar(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
    """A progress bar where a person looks on."""
    import sys

    from tqdm import tqdm

    yield from tqdm(items, title, total, leave=False, file=sys.stderr, disable=None)
