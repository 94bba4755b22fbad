"""What pytest-benchmark writes of a real run comes back as the latency that it was."""

from __future__ import annotations

from plugin.project import Project
from pytest_ptq.metrics import LATENCY_INT8, LATENCY_RATIO
from pytest_ptq.store.benchmark_json import MEDIAN, record_of_benchmarks
from pytest_ptq.store.history import open_history


def test_a_published_latency_and_a_plain_benchmark(project: Project) -> None:
    project.pytester.makepyfile(test_own="def test_sum(benchmark): benchmark(sum, range(9))")
    project.run("test_own.py", "--ptq-metrics=latency", "--ptq-qconfig=x86", "--benchmark-json=b.json")
    record = record_of_benchmarks((project.path / "b.json").read_text(encoding="utf-8"))
    latency, plain = sorted(record.results, key=lambda result: MEDIAN.key in result.measurements)
    (kept,) = open_history(project.path / ".ptq" / "history")[0].results
    assert (latency.suite, latency.qconfig, latency.pairs) == ("tiny", "x86", kept.pairs)
    for key in (LATENCY_RATIO.key, LATENCY_INT8.key):
        assert abs(latency.measurements[key].value / kept.measurements[key].value - 1) < 0.02
    assert plain.suite == "test_own.py::test_sum"
    assert plain.measurements[MEDIAN.key].value > 0
