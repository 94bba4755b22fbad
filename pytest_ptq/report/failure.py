"""What a gate that fails its test says: enough to understand it, to see it again, and to accept it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pytest_ptq.judge.expected import TAKE_OUT
from pytest_ptq.judge.gates import limit_verdict
from pytest_ptq.metrics import AGREEMENT_STEPS, PARTING, Direction, Judgement, LayerError, Measurement, Parting, Verdict
from pytest_ptq.report.beside import beside
from pytest_ptq.report.layers import SHOWN, layer_lines
from pytest_ptq.report.printable import printable
from pytest_ptq.report.terminal import gate_of

TEST_OF: Mapping[str, str] = {"coverage": "test_int8_coverage"}
"""Tests of gates that are not simply called `test_<gate>`."""


def failure_text(
    judgement: Judgement,
    *,
    suite: str,
    qconfig: str,
    data: str = "embedded",
    machine_key: str = "",
    runtime: str = "",
    baseline: str = "",
    measurements: Mapping[str, Measurement] | None = None,
    layers: Sequence[LayerError] = (),
    fp32_layers: Sequence[tuple[str, str]] = (),
    reproduce: str | None = None,
    accept: str | None = None,
) -> str:
    """Several lines about one judgement that is not a pass.

    Args:
        judgement: what is to be explained.
        suite: its name.
        qconfig: its name.
        data: kind of data.
        machine_key: key of this machine; without one, nothing is said about what was recorded.
        runtime: where the int8 model ran; without it, nothing is said.
        baseline: the baseline file, named where a limit is missing.
        measurements: what its gate measured; of accuracy, what stands beside the judged value is shown.
        layers: int8 layers with their errors, in any order.
        fp32_layers: (layer, reason) of what stayed fp32.
        reproduce: command to see it again; made from suite and qconfig by default.
        accept: command that records the new value; likewise.
    """
    metric = judgement.measurement.metric
    gate = gate_of(metric.key)
    command = shlex.join(["pytest", "--ptq-suite", suite, "--ptq-qconfig", qconfig])
    again = reproduce or f"{command} -k {TEST_OF.get(gate, f'test_{gate}')}"
    facts = [
        ("measured", _measured(judgement.measurement)),
        ("limit", _limit(judgement)),
        ("baseline", _recorded(judgement, machine_key)),
        ("runtime", runtime),
        ("details", _details(judgement.measurement)),
        *(beside(measurements or {}) if gate == "accuracy" else ()),
        ("they part", _parting(measurements or {}) if gate == "agreement" else ""),
        ("reproduce", again),
        ("accept", _accept(judgement, accept or f"{command} --ptq-update-baseline failed", qconfig, data, baseline)),
    ]
    lines = [f"{gate} of {suite}[{qconfig}] on {data} data: {judgement.verdict.value}", f"  {judgement.reason}", ""]
    shown = [f"  {name:<10} {text}" for name, text in facts if text]
    blocks = [*layer_lines(layers), *_fp32_lines(fp32_layers)]
    return "\n".join(printable(line) for line in [*lines, *shown[:-2], *blocks, "", *shown[-2:]])


def _measured(measurement: Measurement) -> str:
    metric = measurement.metric
    text = metric.format(measurement.value)
    if measurement.low is not None and measurement.high is not None:
        text += f", 95 % interval {measurement.low:.{metric.digits}f} to {metric.format(measurement.high)}"
    return text if measurement.samples is None else f"{text}, {measurement.samples} samples"


def _limit(judgement: Judgement) -> str:
    limit = judgement.limit
    if limit is None:
        return "none is set"
    bound = "at most" if limit.metric.direction is Direction.LOWER_IS_BETTER else "at least"
    return f"{bound} {limit.metric.format(limit.bound)}, from {limit.source}"


def _recorded(judgement: Judgement, machine_key: str) -> str:
    recorded = judgement.recorded
    if recorded is None:
        return f"nothing recorded for {machine_key}; drift was not judged" if machine_key else ""
    words = [_measured(recorded)]
    words += [f"recorded {recorded.details['date']}"] if "date" in recorded.details else []
    words += [f"commit {str(recorded.details['commit'])[:12]}"] if "commit" in recorded.details else []
    words += [f"on {machine_key}"] if machine_key else []
    return ", ".join(words)


def _parting(measurements: Mapping[str, Measurement]) -> str:
    """The first layer in which another runtime and torch differ by more than rounding."""
    steps = measurements.get(AGREEMENT_STEPS.key)
    return str((steps and Parting.of(steps)) or "")


def _details(measurement: Measurement) -> str:
    pairs = [pair for pair in measurement.details.items() if not pair[0].startswith(PARTING)]
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in pairs
    )


def _accept(judgement: Judgement, command: str, qconfig: str, data: str, baseline: str) -> str:
    """How to live with the value: a recorded one is refreshed by a command, a limit is a decision to be written."""
    limit, key = judgement.limit, judgement.measurement.metric.key
    if TAKE_OUT in judgement.reason:
        return f"{TAKE_OUT}: what was wrong is right now"
    if limit is None:
        where = f' in "data" / "{data}" / "limits" / "{qconfig}" of {baseline}' if baseline else ""
        return f'write a limit for "{key}"{where}'
    if limit_verdict(judgement.measurement, limit) is Verdict.PASS:
        return command
    if judgement.verdict is Verdict.INCONCLUSIVE:
        return f"measure again on an idle machine, or edit the limit at {limit.source}"
    return f"a limit is changed by hand: edit it at {limit.source}"


def _fp32_lines(fp32_layers: Sequence[tuple[str, str]]) -> list[str]:
    if not fp32_layers:
        return []
    shown = [f"    {name}: {reason}" for name, reason in fp32_layers[:SHOWN]]
    more = [f"    and {len(fp32_layers) - SHOWN} more"] if len(fp32_layers) > SHOWN else []
    return ["", "  left in fp32", *shown, *more]
