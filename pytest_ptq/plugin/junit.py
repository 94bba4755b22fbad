"""JUnit properties: what was measured beside each test, and on what beside the whole run.

pytest escapes values for XML; names it writes as they are, so that control characters are taken out of them here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from _pytest.junitxml import xml_key

from pytest_ptq.judge.gates import overall
from pytest_ptq.report.printable import printable
from pytest_ptq.store.provenance import versions

if TYPE_CHECKING:
    from pytest_ptq.plugin.results import GateResult
    from pytest_ptq.plugin.session import PTQSession

Property = tuple[str, str]


def item_properties(results: Sequence[GateResult], machine_key: str) -> list[Property]:
    """Of one test: what it is about, every measurement with its unit in the key, limits and verdicts.

    `<key>`, `<key>_low`, `<key>_high` (95 % interval), `<key>_samples`, `<key>_recorded`, `<key>_limit`,
    `<key>_limit_source` and `<key>_verdict`, where there is such a thing; then `ptq_verdict`, the most serious one, or
    `error` when anything could not be measured. Numbers are written so that they read back equal.
    """
    first = results[0].record
    about = {
        "ptq_suite": first.suite,
        "ptq_data": first.data,
        "ptq_qconfig": first.qconfig,
        "ptq_runtime": first.runtime,
        "ptq_machine": first.machine_key or machine_key,
    }
    about |= {f"ptq_fastest_{name}_ms": repr(ms) for name, ms in first.runtime_ms.items()}
    found = [*about.items(), *(pair for result in results for pair in _measured(result))]
    judgements = [judgement for result in results for judgement in result.record.judgements.values()]
    verdict = None if any(result.record.errors for result in results) else overall(judgements)
    found.append(("ptq_verdict", verdict.value if verdict else "error"))
    return [(printable(name), printable(value)) for name, value in found]


def _measured(result: GateResult) -> Iterator[Property]:
    for key, measurement in result.record.measurements.items():
        beside = {
            "": measurement.value,
            "_low": measurement.low,
            "_high": measurement.high,
            "_samples": measurement.samples,
        }
        yield from ((f"{key}{end}", repr(value)) for end, value in beside.items() if value is not None)
    for key, judgement in result.record.judgements.items():
        if judgement.recorded is not None:
            yield f"{key}_recorded", repr(judgement.recorded.value)
        if judgement.limit is not None:
            yield f"{key}_limit", repr(judgement.limit.bound)
            yield f"{key}_limit_source", judgement.limit.source
        yield f"{key}_verdict", judgement.verdict.value
    yield from ((f"ptq_error_{result.gate}", error) for error in result.record.errors)


def run_properties(session: PTQSession) -> Iterable[Property]:
    """Of the whole run: machine, versions, and what went wrong beside the tests."""
    machine, used = session.machine, {result.record.runtime for result in session.results}
    yield "ptq_machine", machine.key
    yield "ptq_cpu", machine.cpu
    yield "ptq_threads", str(machine.threads)
    yield "ptq_cores", str(machine.cores)
    yield from ((f"ptq_version_{name}", version) for name, version in versions(used).items())
    yield from ((f"ptq_problem_{number}", problem) for number, problem in enumerate(session.problems, start=1))


def add_run_properties(session: PTQSession) -> None:
    """Add them to the file of `--junitxml`, when there is to be one and anything was measured.

    Before pytest writes the file. `record_testsuite_property` would do the same on a worker of pytest-xdist, where
    nobody reads it.
    """
    xml = session.config.stash.get(xml_key, None)
    if xml is None or not session.results:
        return
    for name, value in run_properties(session):
        xml.add_global_property(printable(name), printable(value))
