"""`pytest-ptq profile`: where the time of a suite's int8 model goes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from pytest_ptq.cli.output import json_option, say, say_json
from pytest_ptq.cli.suites import run_options, suite_argument, suite_run
from pytest_ptq.errors import UsageError


@click.command()
@suite_argument
@run_options
@click.option("--top", metavar="N", type=click.IntRange(1), help="Show the N slowest layers, slowest first.")
@click.option("--repeats", metavar="N", type=click.IntRange(1), default=50, show_default=True, help="Passes a median.")
@json_option
def profile(
    suite: str,
    qconfig: str,
    data: str | None,
    weights: Path | None,
    threads: int | None,
    top: int | None,
    repeats: int,
    as_json: bool,
) -> None:
    """Where the time of SUITE's int8 model goes, layer by layer."""
    run = suite_run(suite, data, weights, threads)
    from pytest_ptq import profiling
    from pytest_ptq.qconfig import RUNTIMES, base_name, get_qconfig
    from pytest_ptq.report.profile import profile_text

    chosen = get_qconfig(qconfig, {q.name: q for q in run.qconfigs})
    if chosen.runtime != RUNTIMES[0]:
        remedy = f"Give --qconfig {base_name(chosen.name)}: there the layers can be told apart."
        raise UsageError("layers are timed in torch only", place=chosen.name, remedy=remedy)
    found = profiling.profile(run, chosen, repeats)
    if as_json:
        say_json(asdict(found))
    else:
        say(profile_text(found, top))
