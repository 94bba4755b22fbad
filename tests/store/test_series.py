"""Series: what belongs together, in order, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pytest_ptq.metrics import FLIPS, LATENCY_RATIO, Judgement, Limit, Measurement, Verdict
from pytest_ptq.store.record import QConfigRecord, RunRecord
from pytest_ptq.store.series import SeriesKey, collect_series

START = datetime(2026, 1, 31, tzinfo=UTC)


def run(day, value, machine="k", suite="net", data="embedded", qconfig="x86", metric=FLIPS, **more):
    measured = Measurement(metric, value, value - 1, value + 1)
    result = QConfigRecord(suite, data, qconfig, None, {metric.key: measured}, **more)
    return RunRecord({"key": machine}, {}, (result,), commit=f"c{day}", time=START + timedelta(days=day))


def test_points_stand_in_the_order_of_time_however_they_come():
    runs = [run(day, float(day)) for day in range(5)]
    for order in (runs, runs[::-1], runs + runs):
        found = collect_series(order)
        assert [point.value for point in found[SeriesKey("net", "embedded", "x86", "flips_percent", "k")]] == [
            *range(5)
        ]
        assert len(found) == 1


def test_a_point_tells_its_run_and_its_interval():
    one = run(3, 2.0)
    (point,) = collect_series([one])[SeriesKey("net", "embedded", "x86", "flips_percent", "k")]
    assert (point.run_id, point.time, point.commit) == (one.run_id, one.time, "c3")
    assert (point.value, point.low, point.high) == (2.0, 1.0, 3.0)
    assert (point.bound, point.recorded, point.verdict) == (None, None, None)


def test_a_point_tells_what_it_was_held_against():
    judged = Judgement(
        Verdict.FAIL, Measurement(FLIPS, 9.0), Limit(FLIPS, 5.0, "here"), "too many", Measurement(FLIPS, 4.0)
    )
    (point,) = collect_series([run(0, 9.0, judgements={FLIPS.key: judged})]).popitem()[1]
    assert (point.bound, point.recorded, point.verdict) == (5.0, 4.0, Verdict.FAIL)
    alone = replace(run(0, 9.0).results[0], measurements={}, judgements={FLIPS.key: judged})
    (point,) = collect_series([replace(run(0, 9.0), results=(alone,))]).popitem()[1]
    assert (point.value, point.bound) == (9.0, 5.0)


def test_nothing_is_mixed():
    others = [
        run(1, 1.0, machine="other"),
        run(2, 1.0, suite="other"),
        run(3, 1.0, data="other"),
        run(4, 1.0, qconfig="other"),
        run(5, 1.0, metric=LATENCY_RATIO),
    ]
    found = collect_series([run(0, 1.0), *others])
    assert len(found) == 6
    assert all(len(points) == 1 for points in found.values())
    assert list(found) == sorted(found)


def test_a_machine_without_a_key_is_one_of_its_own():
    found = collect_series([run(0, 1.0), replace(run(1, 1.0), machine={})])
    assert {key.machine for key in found} == {"k", ""}


def test_a_result_with_a_key_of_its_own_is_a_series_of_its_own():
    torch = run(0, 1.0, machine="isa/onednn/2t/torch2.15")
    own = replace(torch.results[0], machine_key="isa/openvino/2t/openvino2026.4", runtime="openvino")
    found = collect_series([replace(torch, results=(*torch.results, own))])
    assert [key.machine for key in found] == ["isa/onednn/2t/torch2.15", "isa/openvino/2t/openvino2026.4"]
