"""`pytest-ptq`: what a person asks outside of a test run. Importing it, and listing suites, imports no torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pytest_ptq import __version__
from pytest_ptq.errors import PTQError, UsageError
from pytest_ptq.report.printable import printable
from pytest_ptq.suite import Suite, list_suites, load_suite, packaged_suites

FAILED, USAGE = 1, 4
"""Exit codes, as pytest has them: what was asked for could not be done; it was asked for in the wrong way."""
CACHE = Path(".pytest_cache") / "d" / "ptq-calibration"
"""Where a test run in the same folder keeps its statistics."""


class _Parser(argparse.ArgumentParser):
    """One sentence instead of the whole usage, and pytest's exit code for it."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"ERROR: usage: {printable(message)}. See {self.prog} --help.\n")
        raise SystemExit(USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, 1 when it failed, 4 when it was asked for in the wrong way."""
    given = _parser().parse_args(argv)
    try:
        status: int = given.run(given)
        sys.stdout.flush()
    except UsageError as error:
        return _complain(error, USAGE)
    except (PTQError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # whoever read has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return 2
    return status


def _complain(error: Exception, status: int) -> int:
    sys.stderr.write(f"ERROR: {printable(str(error))}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="pytest-ptq", description="int8 models: what there is, and where their time goes")
    parser.add_argument("--version", action="version", version=f"pytest-ptq {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listed = commands.add_parser("list", help="the suites, their data, and what they are")
    listed.set_defaults(run=_list)
    timed = commands.add_parser("profile", help="where the time of a suite's int8 model goes, layer by layer")
    timed.set_defaults(run=_profile)
    timed.add_argument("suite", metavar="SUITE", help="a suite's name, or the path of its file")
    timed.add_argument("--qconfig", metavar="NAME", default="x86", help="how it is quantized (default: x86)")
    timed.add_argument("--data", metavar="SPEC", help="embedded, imagenet=DIR, ... (default: the suite's first)")
    timed.add_argument("--weights", metavar="FILE", type=Path, help="state dict instead of the suite's own")
    timed.add_argument("--threads", metavar="N", type=_positive, help="threads (default: one for each core)")
    timed.add_argument("--top", metavar="N", type=_positive, help="show the N slowest layers, slowest first")
    timed.add_argument("--repeats", metavar="N", type=_positive, default=50, help="passes to take medians of")
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _search() -> tuple[Path, ...]:
    return Path("suites").absolute(), packaged_suites()


def _list(_: argparse.Namespace) -> int:
    from tabulate import tabulate

    rows, broken = [], 0
    for name, path in list_suites(_search()).items():
        try:
            suite = load_suite(path, ())
        except PTQError as error:
            broken = FAILED
            rows.append([name, "-", printable(str(error))])
        else:
            rows.append([name, ", ".join(suite.variants), printable(suite.description) or "-"])
    print(tabulate(rows, headers=("suite", "data", "what it is"), tablefmt="simple", disable_numparse=True))
    return broken


def _profile(given: argparse.Namespace) -> int:
    suite = load_suite(given.suite, _search())
    kind, argument = _data(given.data, suite)
    if given.weights is not None and not given.weights.is_file():
        raise UsageError("there is no such file", place=f"--weights {given.weights}")
    from pytest_ptq.profiling import profile
    from pytest_ptq.qconfig import get_qconfig
    from pytest_ptq.report.profile import profile_text
    from pytest_ptq.runner import SuiteRun

    cache = CACHE if CACHE.is_dir() else None
    run = SuiteRun(suite, kind, argument, given.weights, given.threads, _bar, cache=cache)
    qconfig = get_qconfig(given.qconfig, {q.name: q for q in run.qconfigs})
    print(profile_text(profile(run, qconfig, given.repeats), given.top))
    return 0


def _data(spec: str | None, suite: Suite) -> tuple[str | None, str | None]:
    if spec is None:
        return None, None
    from pytest_ptq.sources.spec import parse_data_spec

    return parse_data_spec(spec, extra=suite.variants, option="--data")


def _bar(items: Iterable[Any], title: str, total: int | None = None) -> Iterator[Any]:
    """A progress bar where a person looks on."""
    from tqdm import tqdm

    yield from tqdm(items, title, total, leave=False, file=sys.stderr, disable=None)


if __name__ == "__main__":
    raise SystemExit(main())
