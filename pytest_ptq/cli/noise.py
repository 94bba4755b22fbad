"""`pytest-ptq noise`: how well this machine can tell two latencies apart, and what tolerance that allows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from pytest_ptq.cli.output import json_option, say, say_json
from pytest_ptq.cli.suites import run_options, suite_argument, suite_run
from pytest_ptq.errors import MeasurementError, UsageError
from pytest_ptq.report.printable import printable


@click.command()
@suite_argument
@run_options
@json_option
def noise(suite: str, qconfig: str, data: str | None, weights: Path | None, threads: int | None, as_json: bool) -> None:
    """Time SUITE's float model against itself on this machine, and suggest a tolerance for its latency.

    It takes as many processes as a run that records a baseline: some ten seconds for a small model, after the int8
    model is made. What it measures is what gates go by: run it on the machine, and with the threads, that will judge.
    """
    run = suite_run(suite, data, weights, threads)
    from pytest_ptq.measure.machine import describe_machine
    from pytest_ptq.noise import find_noise
    from pytest_ptq.qconfig import FASTEST, RUNTIMES, get_qconfig

    chosen = get_qconfig(qconfig, {q.name: q for q in run.qconfigs})
    if chosen.runtime == FASTEST:
        raise UsageError("the noise is that of one runtime", place=qconfig, remedy=f"Known: {', '.join(RUNTIMES)}.")
    found = find_noise(run, chosen)
    machine = describe_machine(run.threads).key_for(chosen.runtime)
    if found.unfit:
        remedy = "End what else is running on the machine, and try again."
        raise MeasurementError(
            f"nothing can be told of this machine's noise: {found.unfit}", place=suite, remedy=remedy
        )
    if as_json:
        say_json({"suite": suite, "qconfig": qconfig, "machine": machine, **asdict(found)})
        return
    say(printable(f"{suite}[{qconfig}], {machine}, {found.processes} processes"))
    say(
        f"fp32 / fp32    {found.control:.3f} [{found.control_low:.3f}, {found.control_high:.3f}]: noise floor"
        f" {100 * found.floor:.1f} %\n"
        f"int8 / fp32    {found.ratio:.3f} [{found.ratio_low:.3f}, {found.ratio_high:.3f}]\n"
        f"one process differs from another by {100 * found.spread:.1f} % (standard deviation); five know the ratio to"
        f" {100 * found.reach:.1f} %\n\n"
        f'suggested: "tolerances": {{"latency_ratio": {found.tolerance:g}}} in the baseline file\n'
        "A smaller one is below what five processes can tell: more verdicts would need the second look, or stay open;\n"
        "below the noise floor, drift is not judged at all. The usual one is 0.1."
    )
